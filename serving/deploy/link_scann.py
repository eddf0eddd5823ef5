"""Links ScaNN's TensorFlow ops into a checkout of TensorFlow Serving, before it is built.

Run as `python3 link_scann.py CHECKOUT` where `third_party/` holds scann, highway and cnpy. The
same as google-research/scann/tf_serving/patches do for older versions, by name instead of by line:
ScaNN is built with TensorFlow Serving's own TensorFlow, Abseil, protobuf and Eigen in place of
those of its wheel, and its ops join the list that the server links. Whatever is not found where
it should be stops the build.
"""

import re
import sys
from pathlib import Path

# What ScaNN's BUILD files call a library, and what TensorFlow Serving's workspace calls it.
LABELS = {
    "@local_config_tf//:libtensorflow_framework": None,  # the server has no such library
    "@local_config_tf//:tf_header_lib": "@org_tensorflow//tensorflow/core:tensorflow_opensource",
    "@eigen": "@eigen_archive//:eigen3",
    "@zlib": "@zlib//:zlib",
}
REPOSITORIES = """
    native.local_repository(name = "com_google_scann", path = "third_party/scann")
    native.local_repository(name = "com_google_highway", path = "third_party/highway")
    native.local_repository(name = "cnpy", path = "third_party/cnpy")
"""
LINKED = "@com_google_scann//scann/scann_ops/cc:scann_ops_static"
BESIDE = '"@org_tensorflow_text//tensorflow_text:ops_lib",'
STATIC = """
cc_library(
    name = "scann_ops_static",
    alwayslink = 1,
    deps = [
        ":scann_ops",
        ":scann_ops_kernels",
    ],
)
"""


def rewritten(build: str) -> str:
    """Returns one of ScaNN's BUILD files with the workspace's names, without Python's rules."""
    for label, here in LABELS.items():
        line = f'"{label}",'
        replaced = f'"{here}",' if here else ""
        build = re.sub(
            rf"\n(\s*){re.escape(line)}", rf"\n\1{replaced}" if here else "", build
        )
    build = re.sub(
        r"\npybind_(library|extension)\(.*?\n\)\n", "\n", build, flags=re.DOTALL
    )
    return re.sub(r'load\("@pybind11_bazel.*?\n', "", build)


def with_line_after(text: str, line: str, more: str, place: Path) -> str:
    """Returns a text with something behind the one line that holds `line`.

    Raises:
        SystemExit: if there is none or more than one; the build must not go on.
    """
    if text.count(line) != 1:
        raise SystemExit(
            f"{place} should hold `{line}` once. Found: {text.count(line)} times; this "
            "TensorFlow Serving is laid out otherwise, mend link_scann.py for it"
        )
    return text.replace(line, line + more)


def link(checkout: Path) -> None:
    """Changes the checkout's files."""
    scann = checkout / "third_party" / "scann"
    for name in ("MODULE.bazel", "MODULE.bazel.lock"):
        (scann / name).unlink(missing_ok=True)  # the server is built from a WORKSPACE
    (scann / "WORKSPACE").write_text('workspace(name = "com_google_scann")\n')
    builds = sorted(scann.rglob("BUILD.bazel"))
    if not builds:
        raise SystemExit(
            f"{scann} should hold ScaNN's sources. It holds no BUILD.bazel"
        )
    for build in builds:
        build.write_text(rewritten(build.read_text()))
    ops = scann / "scann" / "scann_ops" / "cc" / "BUILD.bazel"
    ops.write_text(ops.read_text() + STATIC)
    cnpy = checkout / "third_party" / "cnpy"
    (cnpy / "WORKSPACE").write_text('workspace(name = "cnpy")\n')
    workspace = checkout / "tensorflow_serving" / "workspace.bzl"
    line = '"""All TensorFlow Serving external dependencies."""\n'
    workspace.write_text(
        with_line_after(workspace.read_text(), line, REPOSITORIES, workspace)
    )
    servers = checkout / "tensorflow_serving" / "model_servers" / "BUILD"
    servers.write_text(
        with_line_after(servers.read_text(), BESIDE, f'\n    "{LINKED}",', servers)
    )


if __name__ == "__main__":
    link(Path(sys.argv[1]))

"""ScaNN's build files are changed where they should be, or the build stops."""

from pathlib import Path

import pytest

from serving.deploy.link_scann import link

SCANN_OPS = """load("@pybind11_bazel//:build_defs.bzl", "pybind_library")

cc_library(
    name = "scann_ops",
    deps = [
        "@local_config_tf//:libtensorflow_framework",
        "@local_config_tf//:tf_header_lib",
        "@com_google_absl//absl/memory",
    ],
    alwayslink = 1,
)

pybind_library(
    name = "scann_npy",
    deps = [
        ":scann",
    ],
)
"""
SERVERS = """SUPPORTED_TENSORFLOW_OPS = if_v2([]) + [
    "@org_tensorflow_text//tensorflow_text:ops_lib",
]
"""
WORKSPACE = '''def tf_serving_workspace():
    """All TensorFlow Serving external dependencies."""

    http_archive(name = "rules_proto")
'''


@pytest.fixture
def checkout(tmp_path):
    files = {
        "third_party/scann/MODULE.bazel": "",
        "third_party/scann/scann/scann_ops/cc/BUILD.bazel": SCANN_OPS,
        "third_party/cnpy/BUILD": "",
        "tensorflow_serving/workspace.bzl": WORKSPACE,
        "tensorflow_serving/model_servers/BUILD": SERVERS,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_ops_are_linked_and_nothing_of_the_wheel_is_left(checkout):
    link(checkout)
    ops = (checkout / "third_party/scann/scann/scann_ops/cc/BUILD.bazel").read_text()
    assert "local_config_tf" not in ops
    assert "pybind" not in ops
    assert '"@org_tensorflow//tensorflow/core:tensorflow_opensource",' in ops
    assert '"@com_google_absl//absl/memory",' in ops
    assert 'name = "scann_ops_static"' in ops
    assert not (checkout / "third_party/scann/MODULE.bazel").exists()
    servers = (checkout / "tensorflow_serving/model_servers/BUILD").read_text()
    text_ops, scann_ops = servers.splitlines()[1:3]
    assert "org_tensorflow_text" in text_ops
    assert scann_ops == '    "@com_google_scann//scann/scann_ops/cc:scann_ops_static",'
    workspace = (checkout / "tensorflow_serving/workspace.bzl").read_text()
    assert workspace.index("com_google_scann") < workspace.index("rules_proto")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tensorflow_serving/model_servers/BUILD", "SUPPORTED_TENSORFLOW_OPS = []\n"),
        ("tensorflow_serving/model_servers/BUILD", SERVERS + SERVERS),
        ("tensorflow_serving/workspace.bzl", "def tf_serving_workspace():\n    pass\n"),
    ],
)
def test_server_that_is_laid_out_otherwise_stops_the_build(checkout, name, text):
    (checkout / name).write_text(text)
    with pytest.raises(SystemExit, match=Path(name).name):
        link(checkout)


def test_missing_sources_stop_the_build(checkout):
    (checkout / "third_party/scann/scann/scann_ops/cc/BUILD.bazel").unlink()
    with pytest.raises(SystemExit, match="no BUILD.bazel"):
        link(checkout)

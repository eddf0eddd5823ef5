"""Checks whether this machine can run Tandem: what `tandem doctor` does.

Each check takes the facts it judges and returns a `Diagnosis`; `examine` gathers the
facts. Native extensions are tried in child processes, because a wrong CPU or C library
kills the process that loads them.
"""

import concurrent.futures
import dataclasses
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHON = (3, 11)
GLIBC = (2, 28)  # of manylinux_2_28, the newest wheels in the pinned set
# ScaNN's and TensorFlow's wheels are compiled for AVX, ScaNN's for FMA too. What they
# have for AVX2 and AVX-512 they choose at run time.
CPU_FLAGS = ("avx", "fma")
MEMORY_GIB = 4
DISK_GIB = 5

GIB = 2**30
SOURCE_ROOT = Path(__file__).resolve().parent.parent
REINSTALL = (
    "Run `uv sync` in Tandem's folder to install the locked versions, and start Tandem "
    "with `uv run tandem`."
)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What one check found."""

    name: str
    passed: bool
    seen: str
    mend: str  # what to do about it; "" if passed


@dataclasses.dataclass(frozen=True)
class Probe:
    """A piece of Python to run in a child process; it must exit with 0."""

    name: str
    code: str  # prints what it saw; raises if that is wrong
    mend: str


# ScaNN is named only inside the probe's text: of our packages just `models` may import
# it, and the probe must not depend on what `models` makes of it.
PROBES = (
    Probe(
        name="keras",
        code="""
            import models
            import tf_keras
            import tensorflow as tf
            if tf.keras.layers.Layer is not tf_keras.layers.Layer:
                raise RuntimeError("tf.keras is Keras 3")
            print("tf.keras is tf-keras", tf_keras.__version__)
        """,
        mend="Tandem needs Keras 2: `models` sets TF_USE_LEGACY_KERAS=1, which works "
        "only with tf-keras installed. " + REINSTALL,
    ),
    Probe(
        name="scann",
        code="""
            import numpy as np
            from scann.scann_ops.py import scann_ops
            rows = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32)
            builder = scann_ops.builder(rows, 5, "dot_product")
            builder = builder.tree(8, 8, training_sample_size=256)
            searcher = builder.score_ah(2).reorder(50).build()
            found = searcher.search_batched(rows[:4])[0].numpy()
            nearest = np.argsort(-rows[:4] @ rows.T, axis=1)[:, :5]
            if not np.array_equal(found, nearest):
                wrong = f"a search found {found.tolist()}, not {nearest.tolist()}"
                raise RuntimeError(wrong)
            import tensorflow as tf
            print("ScaNN's op searched 256 vectors under TensorFlow", tf.__version__)
        """,
        mend="ScaNN's op loads only in the TensorFlow it was built for. " + REINSTALL,
    ),
    Probe(
        name="tensorflow-data-validation",
        code="""
            import tensorflow_data_validation as tfdv
            from tensorflow_metadata.proto.v0 import statistics_pb2
            statistics = statistics_pb2.DatasetFeatureStatisticsList()
            feature = statistics.datasets.add(num_examples=2).features.add()
            feature.path.step.append("clicks")
            feature.type = statistics_pb2.FeatureNameStatistics.INT
            common = feature.num_stats.common_stats
            common.num_non_missing = 2
            common.min_num_values = common.max_num_values = 1
            names = [each.name for each in tfdv.infer_schema(statistics).feature]
            if names != ["clicks"]:
                raise RuntimeError(f"inferred a schema of {names}, not of ['clicks']")
            print("TFDV", tfdv.__version__, "inferred a schema")
        """,
        mend="TFDV must be the pinned version: newer wheels need a newer C library. "
        + REINSTALL,
    ),
    Probe(
        name="tfx-bsl",
        code="""
            import tfx_bsl
            from tfx_bsl.coders import example_coder
            import tensorflow as tf
            example = tf.train.Example()
            example.features.feature["clicks"].int64_list.value.append(7)
            decoder = example_coder.ExamplesToRecordBatchDecoder()
            batch = decoder.DecodeBatch([example.SerializeToString()]).to_pydict()
            if batch != {"clicks": [[7]]}:
                raise RuntimeError(f"decoded {batch}, not a click count of 7")
            print("tfx-bsl", tfx_bsl.__version__, "decoded an example")
        """,
        mend="tfx-bsl must be the pinned version: newer wheels need a newer C library. "
        + REINSTALL,
    ),
)


def examine(
    root: str | Path, report: Callable[[Diagnosis], None] = lambda diagnosis: None
) -> list[Diagnosis]:
    """Runs every check on this machine.

    Args:
        root: folder that runs will write to; it need not exist yet.
        report: called with each diagnosis as soon as it is known, in the list's order.

    Returns:
        diagnoses: one for each check.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        probes = [pool.submit(check_probe, probe) for probe in PROBES]
        diagnoses = []
        for diagnosis in _examine_machine(Path(root)):
            diagnoses.append(diagnosis)
            report(diagnosis)
        for running in probes:
            diagnoses.append(running.result())
            report(diagnoses[-1])
    return diagnoses


def _examine_machine(root: Path) -> Iterable[Diagnosis]:
    yield check_python(sys.version_info[:2])
    yield check_platform(platform.system(), platform.machine())
    yield check_glibc(*platform.libc_ver())
    yield check_cpu(read_if_there(Path("/proc/cpuinfo")))
    yield check_memory(available_memory(Path("/proc"), Path("/sys/fs/cgroup")))
    yield check_disk(root)
    yield check_versions(pinned_requirements(SOURCE_ROOT), installed_version)


def check_python(version: tuple[int, ...]) -> Diagnosis:
    """Checks that the interpreter is one that every pinned wheel exists for."""
    return diagnose(
        "python",
        version == PYTHON,
        f"Python {_dotted(version)}",
        f"Tandem needs Python {_dotted(PYTHON)}: run `uv sync --python "
        f"{_dotted(PYTHON)}` in its folder; uv installs that Python if need be.",
    )


def check_platform(system: str, machine: str) -> Diagnosis:
    """Checks that the machine is one that the lock file resolves for."""
    return diagnose(
        "platform",
        (system, machine) == ("Linux", "x86_64"),
        f"{system} {machine}",
        "Tandem's native wheels exist for Linux x86-64 only: use such a machine, or a "
        "container with `--platform linux/amd64`.",
    )


def check_glibc(library: str, version: str) -> Diagnosis:
    """Checks the C library, as `platform.libc_ver` names it ("" for musl)."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return diagnose(
        "glibc",
        library == "glibc" and numbers >= GLIBC,
        f"{library} {version}".strip() or "no glibc",
        f"The wheels need glibc {_dotted(GLIBC)} or newer: use Debian 10, Ubuntu "
        "20.04, RHEL 8 or newer (not Alpine, which has musl).",
    )


def check_cpu(cpuinfo: str) -> Diagnosis:
    """Checks the CPU's flags in the text of /proc/cpuinfo."""
    flags = cpu_flags(cpuinfo)
    missing = [flag for flag in CPU_FLAGS if flag not in flags]
    return diagnose(
        "cpu",
        not missing,
        f"without {', '.join(missing)}" if missing else f"has {', '.join(CPU_FLAGS)}",
        "ScaNN and TensorFlow are compiled for AVX and FMA: use an x86-64 CPU of 2013 "
        "or newer; on a virtual machine, pass the host's CPU through.",
    )


def cpu_flags(cpuinfo: str) -> list[str]:
    """Returns the flags of the first CPU in the text of /proc/cpuinfo."""
    found = re.search(r"^flags\s*:(.*)$", cpuinfo, flags=re.MULTILINE)
    return found.group(1).split() if found else []


def check_memory(available: int | None) -> Diagnosis:
    """Checks the bytes of memory that a run may still take; None if not known."""
    return diagnose(
        "memory",
        available is not None and available >= MEMORY_GIB * GIB,
        "not known" if available is None else f"{available / GIB:.1f} GiB available",
        f"A run needs {MEMORY_GIB} GiB: close other programs or raise the container's "
        "memory limit.",
    )


def check_disk(root: Path) -> Diagnosis:
    """Checks that `root`, or the folder it would be made in, has room and is ours."""
    folder = root.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    is_writable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    return diagnose(
        "disk",
        is_writable and free >= DISK_GIB * GIB,
        f"{free / GIB:.1f} GiB free in {folder}"
        + ("" if is_writable else ", which is not a writable folder"),
        f"A run needs {DISK_GIB} GiB at its root: free some space, or choose another "
        "folder with `--root`.",
    )


def check_versions(
    requirements: Iterable[Requirement], installed: Callable[[str], str | None]
) -> Diagnosis:
    """Checks that what is installed is the set on which Tandem was seen to run.

    Args:
        requirements: what should be installed.
        installed: gives the version of a distribution, None if it is not there.
    """
    wrong, count = [], 0
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        count += 1
        version = installed(requirement.name)
        if version is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong.append(
                f"{requirement.name} is {version}, not {requirement.specifier}"
            )
    return diagnose(
        "versions",
        count > 0 and not wrong,
        "; ".join(wrong) or f"{count} requirements checked",
        REINSTALL,
    )


def check_probe(
    probe: Probe, python_path: Path = SOURCE_ROOT, timeout_s: float = 300
) -> Diagnosis:
    """Runs `probe` in a child process, so that even a crash is only a diagnosis."""
    paths = [str(python_path), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    try:
        done = subprocess.run(
            # -P: a folder named like a package where the user stands must not be taken.
            [sys.executable, "-P", "-c", textwrap.dedent(probe.code)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        seen = f"no answer within {timeout_s:g} s"
        return diagnose(probe.name, False, seen, probe.mend)
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        mend = probe.mend
        if -done.returncode == signal.SIGILL:
            mend = f"The CPU lacks an instruction that the wheel uses. {mend}"
        return diagnose(probe.name, False, f"killed by {name}", mend)
    said = done.stdout if done.returncode == 0 else done.stderr
    last = (said.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return diagnose(probe.name, done.returncode == 0, last, probe.mend)


def available_memory(proc: Path, cgroup: Path) -> int | None:
    """Returns how many more bytes the machine, or the container's limit, can give.

    Args:
        proc: where procfs is.
        cgroup: where this container's control group (version 1 or 2) is.

    Returns:
        available: in bytes; None if the system does not tell.
    """
    found = re.search(
        r"^MemAvailable:\s*(\d+) kB", read_if_there(proc / "meminfo"), re.MULTILINE
    )
    if not found:
        return None
    available = int(found.group(1)) * 1024
    for limit, usage, inactive, folder in (
        ("memory.max", "memory.current", "inactive_file", cgroup),
        (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
            cgroup / "memory",
        ),
    ):
        most, used = (
            read_if_there(folder / limit).strip(),
            read_if_there(folder / usage).strip(),
        )
        if most.isdigit() and used.isdigit():
            # Files in the page cache count as used, but give way.
            stat = read_if_there(folder / "memory.stat")
            cached = re.search(rf"^{inactive} (\d+)$", stat, re.MULTILINE)
            free = int(most) - int(used) + (int(cached.group(1)) if cached else 0)
            available = min(available, free)
    return available


def pinned_requirements(source_root: Path) -> list[Requirement]:
    """Returns what should be installed, overrides in place of what they override.

    The facts stand in pyproject.toml; where Tandem is installed without it, they are
    what its own metadata declare, which knows no overrides.
    """
    pyproject = source_root / "pyproject.toml"
    if pyproject.exists():
        settings = tomllib.loads(pyproject.read_text())
        lines = settings["project"]["dependencies"]
        lines += settings["tool"]["uv"]["override-dependencies"]
    else:
        lines = importlib.metadata.requires("tandem") or []
    requirements = map(Requirement, lines)
    return list({canonicalize_name(each.name): each for each in requirements}.values())


def installed_version(name: str) -> str | None:
    """Returns the version of an installed distribution, None if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def diagnose(name: str, passed: bool, seen: str, mend: str) -> Diagnosis:
    """Returns a diagnosis; the mend only where it is needed."""
    return Diagnosis(name, passed, seen, "" if passed else mend)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def read_if_there(path: Path) -> str:
    """Returns a file's text, "" where there is none for us."""
    try:
        return path.read_text()
    except OSError:
        return ""  # not on this system, or not ours to read; the check says so

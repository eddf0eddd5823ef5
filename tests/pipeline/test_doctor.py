"""`tandem doctor`: each check is seen to pass and to fail."""

import importlib.util
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline import doctor
from pipeline.doctor import PROBES, Diagnosis, Probe

GIB = 1024**3
CPUINFO = "processor\t: 0\nflags\t\t: fpu sse4_2 avx avx2 fma f16c\nbugs\t\t:\n"
MEMINFO = "MemTotal:       24000000 kB\nMemAvailable:    8388608 kB\n"  # 8 GiB


def assert_diagnosis(diagnosis: Diagnosis, passed: bool, seen: str) -> None:
    assert diagnosis.passed is passed
    assert seen in diagnosis.seen
    assert bool(diagnosis.mend) is not passed


@pytest.mark.parametrize(
    ("version", "passed"), [((3, 11), True), ((3, 10), False), ((3, 12), False)]
)
def test_check_python(version, passed):
    assert_diagnosis(doctor.check_python(version), passed, f"3.{version[1]}")


@pytest.mark.parametrize(
    ("system", "machine", "passed"),
    [
        ("Linux", "x86_64", True),
        ("Linux", "aarch64", False),
        ("Darwin", "x86_64", False),
    ],
)
def test_check_platform(system, machine, passed):
    assert_diagnosis(doctor.check_platform(system, machine), passed, machine)


@pytest.mark.parametrize(
    ("library", "version", "passed"),
    [
        ("glibc", "2.28", True),
        ("glibc", "2.36", True),
        ("glibc", "2.4", False),  # older than 2.28, although "2.4" > "2.28" as text
        ("glibc", "2.27", False),
        ("", "", False),  # what Python says of musl
    ],
)
def test_check_glibc(library, version, passed):
    assert_diagnosis(doctor.check_glibc(library, version), passed, version)


@pytest.mark.parametrize(
    ("cpuinfo", "passed", "seen"),
    [
        (CPUINFO, True, "avx"),
        (CPUINFO.replace(" fma", " fma4"), False, "without fma"),
        (CPUINFO.replace(" avx ", " "), False, "without avx"),  # avx2 is not avx
        ("", False, "without avx, fma"),
    ],
)
def test_check_cpu(cpuinfo, passed, seen):
    assert_diagnosis(doctor.check_cpu(cpuinfo), passed, seen)


@pytest.mark.parametrize(
    ("available", "passed", "seen"),
    [
        (4 * GIB, True, "4.0 GiB"),
        (4 * GIB - 1, False, "4.0 GiB"),
        (0, False, "0.0 GiB"),
        (None, False, "not known"),
    ],
)
def test_check_memory(available, passed, seen):
    assert_diagnosis(doctor.check_memory(available), passed, seen)


def write_files(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "available"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 8 * GIB),
        # 6 GiB allowed, 3 used, of which 1 is cached files: 4 left.
        (
            {
                "memory.max": f"{6 * GIB}\n",
                "memory.current": f"{3 * GIB}\n",
                "memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file 9\n",
            },
            4 * GIB,
        ),
        (
            {
                "memory/memory.limit_in_bytes": f"{6 * GIB}\n",
                "memory/memory.usage_in_bytes": f"{3 * GIB}\n",
                "memory/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\n",
            },
            4 * GIB,
        ),
        # Version 1 writes "no limit" as a number larger than any machine.
        (
            {
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": "5\n",
            },
            8 * GIB,
        ),
    ],
)
def test_available_memory_heeds_the_containers_limit(tmp_path, files, available):
    proc = write_files(tmp_path / "proc", {"meminfo": MEMINFO})
    cgroup = write_files(tmp_path / "cgroup", files)
    assert doctor.available_memory(proc, cgroup) == available


def test_available_memory_is_not_known_without_procfs(tmp_path):
    assert doctor.available_memory(tmp_path, tmp_path) is None


@pytest.mark.parametrize(
    ("free", "passed"), [(5 * GIB, True), (5 * GIB - 1, False), (0, False)]
)
def test_check_disk_looks_at_the_folder_that_exists(
    tmp_path, monkeypatch, free, passed
):
    looked_at = []

    def disk_usage(path):
        looked_at.append(path)
        return doctor.shutil._ntuple_diskusage(9 * GIB, 9 * GIB - free, free)

    monkeypatch.setattr(doctor.shutil, "disk_usage", disk_usage)
    diagnosis = doctor.check_disk(tmp_path / "not" / "yet")
    assert_diagnosis(diagnosis, passed, f"{free / GIB:.1f} GiB free in {tmp_path}")
    assert looked_at == [tmp_path]


def test_check_disk_fails_where_runs_cannot_write(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert_diagnosis(doctor.check_disk(tmp_path / "file"), False, "not a writable")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert_diagnosis(doctor.check_disk(tmp_path), False, "not a writable")


@pytest.mark.parametrize(
    ("installed", "passed", "seen"),
    [
        ({"tensorflow": "2.20.0", "numpy": "2.1.3"}, True, "2 requirements"),
        (
            {"tensorflow": "2.21.0", "numpy": "2.1.3"},
            False,
            "tensorflow is 2.21.0, not",
        ),
        ({"tensorflow": "2.20.0", "numpy": "1.26.4"}, False, "numpy is 1.26.4"),
        ({"numpy": "2.1.3"}, False, "tensorflow is missing"),
    ],
)
def test_check_versions(installed, passed, seen):
    requirements = [
        Requirement("tensorflow==2.20.0"),
        Requirement("numpy>=2,<3"),
        Requirement("pywin32; sys_platform == 'win32'"),
    ]
    diagnosis = doctor.check_versions(requirements, installed.get)
    assert_diagnosis(diagnosis, passed, seen)


def test_check_versions_fails_when_nothing_was_compared():
    assert_diagnosis(doctor.check_versions([], {}.get), False, "0 requirements")


def test_pinned_requirements_take_the_override(tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        "[project]\n"
        'dependencies = ["TensorFlow>=2.21", "tfx[kfp]==1.21.0", "click"]\n'
        "[tool.uv]\n"
        'override-dependencies = ["tensorflow==2.20.0", "tfx_bsl==1.16.1"]\n'
    )
    found = {str(each) for each in doctor.pinned_requirements(tmp_path)}
    assert found == {
        "tensorflow==2.20.0",
        "tfx[kfp]==1.21.0",
        "click",
        "tfx_bsl==1.16.1",
    }


def test_pinned_requirements_come_from_metadata_without_pyproject(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(
        doctor.importlib.metadata, "requires", lambda name: [f"from-{name}==1"]
    )
    assert [str(each) for each in doctor.pinned_requirements(tmp_path)] == [
        "from-tandem==1"
    ]


def test_installed_version_of_what_is_not_there_is_none():
    assert doctor.installed_version("no-such-distribution") is None
    assert doctor.installed_version("pytest") == pytest.__version__


@pytest.mark.parametrize(
    ("code", "passed", "seen"),
    [
        ("print('noise'); print('all is well')", True, "all is well"),
        ("raise ImportError('undefined symbol: _ZN3tsl')", False, "undefined symbol"),
        ("raise SystemExit(3)", False, "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", False, "SIGILL"),
        ("import os; os.abort()", False, "SIGABRT"),
        ("import time; time.sleep(60)", False, "no answer within 1 s"),
    ],
)
def test_check_probe_survives_whatever_the_extension_does(code, passed, seen):
    probe = Probe("extension", code, mend="Install it anew.")
    timeout_s = 1 if "sleep" in code else 60
    diagnosis = doctor.check_probe(probe, timeout_s=timeout_s)
    assert_diagnosis(diagnosis, passed, seen)
    if not passed:
        assert "Install it anew." in diagnosis.mend
        assert ("instruction" in diagnosis.mend) is (seen == "SIGILL")


def test_check_probe_ignores_the_folder_where_the_user_stands(tmp_path, monkeypatch):
    write_files(tmp_path, {"models/__init__.py": "raise RuntimeError('not mine')"})
    monkeypatch.chdir(tmp_path)
    probe = Probe("keras", "import models; print(models.__file__)", mend="")
    seen = doctor.check_probe(probe).seen
    assert Path(seen) == Path(importlib.util.find_spec("models").origin)


def test_examine_reports_every_check_in_order(tmp_path, monkeypatch):
    probes = (
        Probe("good", "print('fine')", mend=""),
        Probe("bad", "import no_such_module", mend="Install it."),
    )
    monkeypatch.setattr(doctor, "PROBES", probes)
    reported = []
    diagnoses = doctor.examine(tmp_path, reported.append)
    assert reported == diagnoses
    machine = ["python", "platform", "glibc", "cpu", "memory", "disk", "versions"]
    assert [each.name for each in diagnoses] == [*machine, "good", "bad"]
    assert [each.passed for each in diagnoses[-2:]] == [True, False]
    assert "no_such_module" in diagnoses[-1].seen


@pytest.mark.component
@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.name)
def test_probe_passes_on_the_locked_versions(probe):
    assert_diagnosis(doctor.check_probe(probe), True, "")


BROKEN = "raise ImportError('libstdc++.so.6: version GLIBCXX_3.4.32 not found')"
# An op that loads, runs, and answers wrongly.
WRONG_SCANN = """
import numpy as np
class _Builder:
    def __getattr__(self, name):
        return lambda *args, **kwargs: self
    def search_batched(self, queries):
        return [self]
    def numpy(self):
        return np.zeros((4, 5), np.int32)
def builder(*args):
    return _Builder()
"""


@pytest.mark.component
@pytest.mark.parametrize(
    ("name", "module", "text", "seen"),
    [
        ("keras", "models/__init__.py", "", "tf.keras is Keras 3"),
        ("keras", "tf_keras/__init__.py", BROKEN, "GLIBCXX"),
        ("scann", "scann/__init__.py", BROKEN, "GLIBCXX"),
        ("scann", "scann/scann_ops/py/scann_ops.py", WRONG_SCANN, "a search found"),
        (
            "tensorflow-data-validation",
            "tensorflow_data_validation/__init__.py",
            BROKEN,
            "GLIBCXX",
        ),
        (
            "tensorflow-data-validation",
            "tensorflow_data_validation/__init__.py",
            "from tensorflow_metadata.proto.v0.schema_pb2 import Schema\n"
            "infer_schema = lambda statistics: Schema()\n",
            "inferred a schema of []",
        ),
        ("tfx-bsl", "tfx_bsl/__init__.py", BROKEN, "GLIBCXX"),
        (
            "tfx-bsl",
            "tfx_bsl/coders/example_coder.py",
            "class ExamplesToRecordBatchDecoder:\n"
            "    DecodeBatch = lambda self, batch: self\n"
            "    to_pydict = lambda self: {}\n",
            "decoded {}",
        ),
    ],
)
def test_probe_rejects_a_broken_installation(
    tmp_path, monkeypatch, name, module, text, seen
):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    packages = {f"{each}/__init__.py": "" for each in Path(module).parents[:-1]}
    write_files(tmp_path, packages | {module: text})
    (probe,) = (each for each in PROBES if each.name == name)
    assert_diagnosis(doctor.check_probe(probe, python_path=tmp_path), False, seen)

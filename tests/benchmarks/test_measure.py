"""What a command costs, seen on commands that cost a known amount."""

import os
import sys

import pytest

from benchmarks.measure import _family, compiled_into, run_measured

BURN = """
import subprocess, sys, time
def burn(seconds):
    while time.process_time() < seconds:
        pass
"""
CHILD = BURN + "burn(0.4)"
BOTH = BURN + f"subprocess.run([sys.executable, '-c', {CHILD!r}]); burn(0.4)"
ORPHAN = BURN + (
    f"child = subprocess.Popen([sys.executable, '-c', {CHILD!r}]); burn(0.2); "
    "time.sleep(1.5)"
)
HOLD = "block = b'x' * {}; import time; time.sleep(0.6)"


def python(code, folder, **environment):
    return run_measured([sys.executable, "-c", code], folder, environment)


def test_cpu_time_of_children_counts(tmp_path):
    assert 0.75 < python(BOTH, tmp_path).cpu_seconds < 1.6


def test_cpu_time_of_children_that_nobody_waits_for_counts(tmp_path):
    assert 0.5 < python(ORPHAN, tmp_path).cpu_seconds < 1.4


def test_sleeping_costs_wall_time_alone(tmp_path):
    cost = python("import time; time.sleep(0.5)", tmp_path)
    assert cost.wall_seconds >= 0.5
    assert cost.cpu_seconds < 0.4


def test_memory_is_that_of_the_largest_process_and_of_all(tmp_path):
    size = 64 << 20
    hold = HOLD.format(size)
    child = f"subprocess.Popen([sys.executable, '-c', {hold!r}])"
    code = f"import subprocess, sys; child = {child}; {hold}; child.wait()"
    cost = python(code, tmp_path)
    assert size < cost.largest_process_bytes < 2 * size
    assert 2 * size < cost.peak_bytes < 4 * size
    assert len(cost.processes) == 2


def test_output_and_environment_pass_through(tmp_path):
    cost = python("import os; print(os.getcwd(), os.environ['X'])", tmp_path, X="7")
    assert cost.output.split() == [os.path.realpath(tmp_path), "7"]


def test_failing_command_is_an_error_that_shows_its_last_words(tmp_path):
    with pytest.raises(RuntimeError, match="code 3(.|\n)*the reason"):
        python(
            "import sys; print('the reason', file=sys.stderr); sys.exit(3)", tmp_path
        )


def test_family_is_the_root_and_all_below():
    parents = {1: 0, 2: 1, 3: 2, 4: 1, 5: 9}
    assert sorted(_family(2, parents)) == [2, 3]
    assert sorted(_family(1, parents)) == [1, 2, 3, 4]
    assert _family(7, parents) == []


def check_compiles_once(environment_of, tmp_path):
    """A module's bytecode is kept, though the caller's environment forbids it, and
    not beside the module, where it might not be written or belong to others."""
    source, kept = tmp_path / "source", tmp_path / "kept"
    source.mkdir()
    (source / "slow_to_compile.py").write_text("value = 1\n")
    code = "import slow_to_compile as m; print(m.__cached__, m.value)"
    python(code, source, **environment_of(kept))
    (compiled,) = kept.rglob("slow_to_compile.*.pyc")
    assert not list(source.rglob("*.pyc"))
    # What Python reads is the bytecode: it believes a source of equal size and time.
    stat = (source / "slow_to_compile.py").stat()
    (source / "slow_to_compile.py").write_text("value = 2\n")
    os.utime(source / "slow_to_compile.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    output = python(code, source, **environment_of(kept)).output
    assert output.split() == [str(compiled), "1"]


def test_modules_are_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    check_compiles_once(compiled_into, tmp_path)


WRONG_ENVIRONMENTS = {
    "as it was": lambda folder: {},
    "a place, still forbidden": lambda folder: {"PYTHONPYCACHEPREFIX": str(folder)},
    "beside the module": lambda folder: {"PYTHONDONTWRITEBYTECODE": ""},
}


@pytest.mark.parametrize("wrong", WRONG_ENVIRONMENTS.values(), ids=WRONG_ENVIRONMENTS)
def test_compilation_checker_rejects(wrong, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    with pytest.raises((AssertionError, ValueError)):
        check_compiles_once(wrong, tmp_path)

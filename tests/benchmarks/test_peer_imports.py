"""Peers run in environments of their own, with NumPy and SciPy beside their library."""

import subprocess
import sys

import pytest

ABSENT = ("pyarrow", "pydantic", "pandas", "tensorflow", "apache_beam")
SHARED = {
    "retrieval": ["benchmarks.retrieval_baselines", "benchmarks.peers.fold_in"],
    "index": ["benchmarks.ann_contestant", "benchmarks.ann_world"],
    "ctr": ["benchmarks.ctr_contest", "benchmarks.ctr_pace"],
}


def imports_without(modules, absent=ABSENT):
    """Returns how importing ends where others are not installed, and what it says."""
    block = f"import sys; sys.modules.update(dict.fromkeys({list(absent)!r}))"
    command = [sys.executable, "-c", f"{block}; import {', '.join(modules)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("modules", SHARED.values(), ids=SHARED)
def test_what_peers_share_needs_nothing_of_tandems_environment(modules):
    code, errors = imports_without(modules)
    assert code == 0, errors


def test_a_module_that_does_need_it_is_noticed():
    code, errors = imports_without(["schemas.events"])
    assert code != 0
    assert "pyarrow" in errors

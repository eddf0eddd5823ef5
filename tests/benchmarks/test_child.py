"""A child answers what it is told, and its end is an error and not an answer."""

import pytest

from benchmarks.child import Child
from benchmarks.served_root import write_messages
from benchmarks.serving_traffic import Traffic

pytestmark = pytest.mark.component


def test_child_that_ends_is_named():
    with (
        Child("serving_load") as child,  # without its arguments
        pytest.raises(RuntimeError, match="serving_load ended"),
    ):
        child.hear()


def test_child_answers_each_time_until_it_is_closed(tmp_path):
    """Nobody listens at its target: that is what it has to tell."""
    file = write_messages(tmp_path / "messages", [b""])
    with Traffic("localhost:1", file, rate=20) as child:
        for _ in range(2):
            answers = child.over(0.5)
            assert not answers.ms and answers.failures == answers.failed["UNAVAILABLE"]
    assert child._process.returncode == 0

import pytest
import tensorflow as tf

from models.index.pareto import pareto_points, write_pareto
from models.index.tuning import Tuning, TuningPoint


def point(recall, speed, leaves=1):
    return TuningPoint(leaves, 200, 2, recall, 0.001, speed)


FAST, MIDDLE, GOOD = point(0.8, 900.0), point(0.9, 500.0, 2), point(0.99, 100.0, 3)
SLOW, TIED = point(0.85, 400.0), point(0.9, 450.0)
POINTS = [GOOD, SLOW, FAST, TIED, MIDDLE]


def check_pareto(front):
    assert front(POINTS) == [FAST, MIDDLE, GOOD]
    assert front([MIDDLE]) == [MIDDLE]
    assert front([MIDDLE, MIDDLE]) == [MIDDLE]


def test_pareto_points_are_those_that_no_other_beats():
    check_pareto(pareto_points)


WRONG = {
    "all": lambda points: sorted(points, key=lambda p: p.recall),
    "the fastest and the best": lambda points: [
        max(points, key=lambda p: p.queries_per_second),
        max(points, key=lambda p: p.recall),
    ],
    "equal recall beats nobody": lambda points: sorted(
        {
            p
            for p in points
            if not any(
                q.recall > p.recall and q.queries_per_second > p.queries_per_second
                for q in points
            )
        },
        key=lambda p: p.recall,
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_check_of_pareto_points_rejects(wrong):
    with pytest.raises(AssertionError):
        check_pareto(wrong)


def test_tensorboard_run_has_the_front_and_the_table(tmp_path):
    write_pareto(Tuning(MIDDLE, tuple(POINTS), 100, 0.89), tmp_path)
    (path,) = tmp_path.iterdir()
    events = tf.compat.v1.train.summary_iterator(str(path))
    values = [(event.step, value) for event in events for value in event.summary.value]
    speeds = {
        step: tf.make_ndarray(value.tensor).item()
        for step, value in values
        if value.tag == "index/queries_per_second"
    }
    assert speeds == {8000: 900.0, 9000: 500.0, 9900: 100.0}
    (table,) = [value for _, value in values if value.tag == "index/tuning"]
    text = tf.make_ndarray(table.tensor).item().decode()
    assert "| 2 | 200 | 2 | 0.9000 +- 0.0010 | 500 | **chosen** |" in text
    assert "| 1 | 200 | 2 | 0.8500 +- 0.0010 | 400 |  |" in text
    assert text.count("not beaten") == 2

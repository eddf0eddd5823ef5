"""What off-policy evaluation said of releases: kept in order, drawn with intervals."""

import numpy as np
import pytest

from components.policy_board import JudgedRelease, releases_chart
from pipeline.layout import Layout
from pipeline.policy_history import judged_policy, read_policies, record_policy


def _figures(value: float, release: int | None) -> dict:
    """Returns a run's figures, as far as they are read."""
    estimate = {
        "value": value,
        "interval": [value - 0.1, value + 0.1],
        "standard_error": 0.05,
        "parameter": None,
    }
    found: dict = {
        "policy": {
            "log": {"rows": 100},
            "logged": {"ctr": {"value": 0.2, "interval": [0.1, 0.3]}},
            "policies": {
                "candidate": {
                    "effective_rows": 50.0,
                    "metrics": {"ctr": {"dr": estimate, "ips": estimate}},
                }
            },
        }
    }
    return found if release is None else found | {"release": release}


def _record(layout: Layout, value: float, release: int | None, name: str = "one"):
    judged = judged_policy(name, _figures(value, release))
    assert judged is not None
    return record_policy(layout, judged)


def _scalars(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorflow import make_ndarray

    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    return {
        tag: [
            (event.step, float(make_ndarray(event.tensor_proto)))
            for event in accumulator.Tensors(tag)
        ]
        for tag in accumulator.Tags()["tensors"]
        if "releases_ctr" in tag
    }


def test_estimates_of_releases_stand_one_after_the_other(tmp_path):
    layout = Layout(tmp_path)
    _record(layout, 0.3, 1)
    _record(layout, 0.9, 7, "another")
    _record(layout, 0.4, 2)
    own = _record(layout, 0.35, 1)  # judged again: its own place, not a second one
    assert [(each.release, each.estimates["ctr"]["dr"][0]) for each in own] == [
        (1, 0.35),
        (2, 0.4),
    ]
    assert len(read_policies(layout)) == 3
    board = layout.policy_board("one")
    tag = "policy_releases_ctr/dr"
    for run, expected in (
        ("estimate", [(1, 0.35), (2, 0.4)]),
        ("low", [(1, 0.25), (2, 0.3)]),
        ("high", [(1, 0.45), (2, 0.5)]),
        ("logged", [(1, 0.2), (2, 0.2)]),
    ):
        found = _scalars(board / run)
        assert set(found) == {tag}  # `ips` is not followed
        np.testing.assert_allclose(found[tag], expected, rtol=1e-6)


def test_refused_policy_stays_until_the_next_run(tmp_path):
    layout = Layout(tmp_path)
    _record(layout, 0.3, 1)
    own = _record(layout, 0.1, None)
    assert [each.release for each in own] == [1, None]
    own = _record(layout, 0.4, 2)
    assert [each.release for each in own] == [1, 2]


@pytest.mark.parametrize(
    "figures", [{}, {"policy": {"log": {"rows": 0}}}], ids=["no gate", "no propensity"]
)
def test_run_that_judged_no_policy_adds_nothing(figures):
    assert judged_policy("one", figures) is None


def test_chart_shows_a_log_and_an_estimate_of_each_release():
    def drawn(number: int) -> np.ndarray:
        releases = [
            JudgedRelease(
                f"release {n}",
                {"ctr": (0.2, 0.1, 0.3)},
                {"ctr": {"dr": (0.3, 0.25, 0.4)}},
            )
            for n in range(number)
        ]
        return releases_chart(releases, "ctr", "dr")

    assert drawn(1).dtype == np.uint8
    assert drawn(2).shape[0] - drawn(1).shape[0] == 2 * 26

"""How often a policy's top item is not its ranker's: by hand, and of a policy asked."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from components.exploration_board import (
    exploration_rates,
    measure_exploration,
    write_exploration,
)

# Four requests of five candidates, in the policy's order; slates have two places.
SCORES = np.array(
    [
        [0.9, 0.5, 0.4, 0.3, 0.0],  # the best first
        [0.5, 0.9, 0.4, 0.3, 0.0],  # the second best, which is in the greedy slate
        [0.4, 0.9, 0.5, 0.3, 0.1],  # the third best: outside
        [0.7, 0.7, 0.7, 0.1, 0.1],  # three best ones: any of them is a greedy top
    ]
)


def check_rates(rates):
    assert rates(SCORES, 2) == {"outside_greedy_slate": 0.25, "not_the_best": 0.5}
    # A slate of all candidates has no outside.
    assert rates(SCORES, 9) == {"outside_greedy_slate": 0.0, "not_the_best": 0.5}


def _any_of_the_slate(scores, width):
    """Whether anything in the slate is explored, not its top."""
    ordered = -np.sort(-scores, axis=1)
    differs = (scores[:, :width] < ordered[:, :width]).any(axis=1)
    return exploration_rates(scores, width) | {
        "outside_greedy_slate": float(differs.mean())
    }


def _by_place(scores, width):
    """By the order of equal scores, which says nothing of exploring."""
    best = np.argsort(-scores[:, ::-1], axis=1, kind="stable")[:, 0]
    is_top = best == scores.shape[1] - 1
    return exploration_rates(scores, width) | {"not_the_best": 1 - is_top.mean()}


def test_rates_by_hand():
    check_rates(exploration_rates)


@pytest.mark.parametrize(
    "wrong",
    [_any_of_the_slate, _by_place, lambda s, width: exploration_rates(s, width - 1)],
)
def test_rates_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_rates(wrong)


def test_each_request_is_asked_once_for_all_candidates():
    asked = {}

    def inputs_of(examples):
        return {"user_id": examples, "now": np.arange(len(examples))}

    def recommend(**inputs):
        asked.update(inputs)
        return {"scores": tf.constant(SCORES)}

    policy = SimpleNamespace(recommend=recommend, inputs_of=inputs_of)
    rows = SimpleNamespace(
        requests=np.array([3, 3, 0, 1, 1, 2]),
        positions=np.array([0, 1, 0, 1, 0, 0]),
        serialized=np.array([b"x", b"x2", b"y", b"z", b"z2", b"w"], object),
    )
    rates = measure_exploration(policy, rows, num_candidates=5, seed=7)
    assert rates == {"outside_greedy_slate": 0.25, "not_the_best": 0.5}
    assert asked["now"].numpy().tolist() == [0, 1, 2, 3]
    assert asked["user_id"].numpy().tolist() == [b"x", b"y", b"z", b"w"]
    assert asked["k"].numpy() == 5 and asked["exclude_item_ids"].shape == (4, 0)
    assert asked["seed"].numpy().tolist() == [7, 8, 9, 10]


def test_of_a_long_log_no_more_requests_are_made_than_needed():
    numbers = []

    def inputs_of(examples):
        numbers.extend(examples)
        return {}

    policy = SimpleNamespace(
        recommend=lambda **inputs: {"scores": tf.constant(SCORES)},
        inputs_of=inputs_of,
    )
    rows = SimpleNamespace(
        requests=np.arange(1000),
        positions=np.zeros(1000, int),
        serialized=np.arange(1000),
    )
    measure_exploration(policy, rows, num_candidates=5, seed=0)
    assert numbers == list(range(0, 1000, 4))


def test_rates_are_in_the_policys_run(tmp_path):
    write_exploration({"not_the_best": 0.5}, "candidate", str(tmp_path))
    events = EventAccumulator(str(tmp_path / "candidate"))
    events.Reload()
    (point,) = events.Tensors("exploration/not_the_best")
    assert float(tf.make_ndarray(point.tensor_proto)) == 0.5

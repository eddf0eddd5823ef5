"""The simulated world: its uniform policy tells true chances, its log is a decision log."""

import collections

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.config import load_config
from pipeline.simulation.settings import SimulationSettings, WorldSize
from pipeline.simulation.world import World, item_number, user_number
from schemas.decisions import IMPRESSION, read_decision

SIZE = WorldSize(users=50, items=6, groups=2, categories=3)
END = 1_700_000_000_000


def _world(seed: int = 0) -> World:
    return World(SIZE, seed)


def check_uniform_propensities(propensities):
    """Chances of a slate of two, by counting, before and after a click."""
    world = _world()
    for expected_left in (6, 5):
        told = propensities(world, 0, 2)
        draws = 20_000
        slates = [tuple(world.uniform_slate(0, 2)) for _ in range(draws)]
        tops = collections.Counter(slate[0] for slate in slates)
        assert len(tops) == expected_left
        whole = collections.Counter(slates)
        assert len(whole) == expected_left * (expected_left - 1)
        for seen, chance in (
            (tops.most_common()[0][1] / draws, told[0]),
            (np.mean(list(whole.values())) / draws, told[0] * told[1]),
        ):
            # Four and a half standard errors: the largest of six counts is above.
            assert abs(seen - chance) < 4.5 * np.sqrt(chance * (1 - chance) / draws)
        world.chances[0, 0] = 1.0  # clicked for sure
        assert world.clicks(0, [0]) == [0]


def test_uniform_policy_tells_its_true_chances():
    check_uniform_propensities(World.uniform_propensities)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda world, user, k: [1 / SIZE.items] * k,
        lambda world, user, k: [1 / (SIZE.items - place) for place in range(k)],
    ],
    ids=["with repetition", "what was clicked counted"],
)
def test_chance_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_uniform_propensities(wrong)


def test_clicked_item_is_worth_nothing_any_more():
    world = _world()
    world.chances[0] = [0.9, 0.8, 0.5, 0.4, 0.3, 0.1]
    before = world.worth(0, [5, 4])
    assert before.shown == pytest.approx(0.2)
    assert before.best == pytest.approx(0.85)
    assert before.uniform == pytest.approx(0.5)
    world.chances[0, 0] = 1.0
    world.clicks(0, [0])
    after = world.worth(0, [5, 4])
    assert after.best == pytest.approx(0.65)
    assert after.uniform == pytest.approx(2.1 / 5)


def test_nobody_comes_again_before_everybody_came():
    users = _world().visitors(120)
    assert sorted(users[:50]) == sorted(users[50:100]) == list(range(50))


def test_first_log_is_one_of_decisions_and_answers():
    world = _world()
    events, worths = world.first_log(100, 2, END)
    assert len(worths) == 100
    by_request = collections.defaultdict(list)
    for event in events:
        by_request[event["request_id"]].append(event)
    clicks = 0
    met = collections.defaultdict(set)
    for request in by_request.values():
        shown = [each for each in request if each["event_type"] == IMPRESSION]
        decision = read_decision(shown)
        items = [item.item_id for item in decision.slate]
        assert not set(items) & met[decision.user_id]
        for answer in request[len(shown) :]:
            clicks += 1
            assert decision.timestamp < answer["timestamp"] < END
            assert answer["item_id"] in items
            met[decision.user_id].add(answer["item_id"])
    assert len(by_request) == 100
    assert clicks == len(events) - 200 > 0


def test_world_is_the_same_again_by_its_seed():
    logs = [_world(seed).first_log(20, 2, END)[0] for seed in (3, 3, 4)]
    assert logs[0] == logs[1] != logs[2]


def test_tables_name_what_the_config_declares(tmp_path):
    config = load_config("simulation")
    _world().write_tables(tmp_path)
    items = pq.read_table(tmp_path / "items.parquet")
    assert items.column_names == ["item_id", *(f.name for f in config.features.item)]
    assert [item_number(item) for item in items["item_id"].to_pylist()] == list(
        range(6)
    )
    users = pq.read_table(tmp_path / "users.parquet")
    assert users.column_names == ["user_id", *(f.name for f in config.features.user)]
    assert [user_number(user) for user in users["user_id"].to_pylist()] == list(
        range(50)
    )


def test_every_item_is_ranked_so_that_a_replay_knows_all_candidates():
    config = load_config("simulation")
    assert config.serving.num_candidates >= WorldSize().items
    assert config.features.history_length >= WorldSize().items


@pytest.mark.parametrize("key", ["rounds", "first_requests", "requests"])
def test_simulation_without_a_round_is_refused(key):
    with pytest.raises(ValueError, match=key):
        SimulationSettings(**{key: 0})

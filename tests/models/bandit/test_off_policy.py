import dataclasses

import numpy as np
import pytest

from models.bandit.off_policy import Log, Target, evaluate, logged_value
from models.bandit.off_policy_settings import OffPolicySettings
from models.bandit.slates import SlateModel
from tests.models.bandit.off_policy_reference import World

SETTINGS = OffPolicySettings(num_resamples=200)


def _case(num_rounds=6000, seed=0):
    world = World.drawn(seed)
    contexts, actions, rewards = world.log(num_rounds, seed)
    log = Log(
        rewards,
        world.logging[contexts, actions],
        np.arange(num_rounds) // 2,
        np.zeros(num_rounds, np.int64),
        least_propensity=float(world.logging.min()),
    )
    q = world.reward + 0.1
    target = Target(
        world.target[contexts, actions],
        q[contexts, actions],
        (world.target * q).sum(axis=1)[contexts],
        world.reward[contexts, actions],
        (world.target * world.reward).sum(axis=1)[contexts],
        unsupported=0.0,
    )
    return world, log, target


def test_evaluate_covers_the_value_with_every_estimator_but_dm():
    world, log, target = _case()
    found = evaluate(log, target, SETTINGS)
    assert not found.diagnostics.findings
    for name, estimate in found.estimates.items():
        error = estimate.standard_error
        assert estimate.low <= estimate.value <= estimate.high
        if name != "dm":
            assert abs(estimate.value - world.value) < 5 * error + 1e-3, name
        assert (estimate.high - estimate.low) == pytest.approx(3.92 * error, rel=0.3)
    dm = found.estimates["dm"]
    assert dm.value == pytest.approx(world.value + 0.1, abs=0.02)
    low, high = found.bernstein
    assert low < world.value < high
    assert high - low > 2 * (found.estimates["ips"].high - found.estimates["ips"].low)


def test_evaluate_without_a_model_has_what_weights_alone_give():
    _, log, target = _case(400)
    bare = evaluate(log, Target(target.propensities), SETTINGS)
    assert set(bare.estimates) == {"ips", "clipped_ips", "snips", "sg_ips"}
    assert bare.estimates["clipped_ips"].parameter in SETTINGS.parameters
    assert bare.estimates["ips"].parameter is None


def test_evaluate_draws_the_same_users_as_for_the_logging_policy():
    """So a difference to what was logged is paired: for the same policy it is 0."""
    _, log, _ = _case(400)
    same = evaluate(log, Target(log.propensities), SETTINGS)
    logged, draws = logged_value(log, SETTINGS)
    assert same.estimates["ips"].value == pytest.approx(logged.value)
    np.testing.assert_allclose(same.draws["ips"], draws)
    np.testing.assert_allclose(same.draws["snips"], draws)
    assert logged.low < logged.value < logged.high


def test_evaluate_says_nothing_of_bounds_that_are_not_known():
    _, log, target = _case(400)
    unknown = dataclasses.replace(log, least_propensity=None)
    assert evaluate(unknown, target, SETTINGS).bernstein is None
    large = dataclasses.replace(log, rewards=log.rewards * 3)
    assert evaluate(large, target, SETTINGS).bernstein is None


def test_evaluate_multiplies_down_a_slate_where_rewards_depend_on_it():
    _, log, target = _case(400)
    slates = dataclasses.replace(
        log, slates=np.arange(400) // 2, positions=np.arange(400) % 2
    )
    cascade = evaluate(slates, target, SETTINGS, SlateModel.CASCADE)
    ratios = target.propensities / log.propensities
    expected = ratios.copy()
    expected[1::2] *= ratios[::2]
    assert cascade.estimates["ips"].value == pytest.approx(
        np.mean(expected * log.rewards)
    )
    assert set(cascade.positions) == {0, 1}
    assert cascade.bernstein is None


def test_log_refuses_chances_that_cannot_be():
    _, log, target = _case(400)
    with pytest.raises(ValueError, match="`propensities` should be in"):
        dataclasses.replace(log, propensities=log.propensities * 0)
    with pytest.raises(ValueError, match="`least_propensity`"):
        dataclasses.replace(log, least_propensity=0.9)
    with pytest.raises(ValueError, match="`target` should be in"):
        evaluate(log, Target(target.propensities * 9), SETTINGS)

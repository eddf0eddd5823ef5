import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.bandit.estimators import (
    Contributions,
    Estimator,
    Rounds,
    clipped,
    contributions,
    shrunk,
    sub_gaussian,
    switched,
)
from tests.models.bandit import off_policy_reference as reference

PARAMETERS = {
    "clipped_ips": 1.3,
    "clipped_dr": 1.3,
    "switch_dr": 1.3,
    "dros": 2.5,
    "sg_ips": 0.3,
    "sg_dr": 0.3,
}


def _rounds(seed=0, n=60):
    rng = np.random.default_rng(seed)
    return Rounds(
        rng.random(n),
        np.where(rng.random(n) < 0.2, 0.0, rng.gamma(1.0, 1.0, n)),
        rng.random(n),
        rng.random(n),
    )


def estimate(name, rounds):
    return contributions(Estimator(name), rounds, PARAMETERS.get(name)).value


def check_values(implementation):
    """Every estimator equals its formula, a round at a time."""
    for seed in range(3):
        rounds = _rounds(seed)
        for estimator in Estimator:
            expected = reference.estimate(
                estimator.value,
                *(getattr(rounds, f.name) for f in dataclasses.fields(rounds)),
                PARAMETERS.get(estimator.value),
            )
            found = implementation(estimator.value, rounds)
            np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=estimator)


def _changed(name, wrong):
    def implementation(asked, rounds):
        return wrong(rounds) if asked == name else estimate(asked, rounds)

    return implementation


def _dr_of(rounds, weights, norm=1.0):
    return np.mean(
        rounds.q_target + weights * (rounds.rewards - rounds.q_logged) / norm
    )


WRONG = {
    "ips divided by the mean weight": _changed(
        "ips", lambda r: np.mean(r.weights * r.rewards) / r.weights.mean()
    ),
    "snips not divided": _changed("snips", lambda r: np.mean(r.weights * r.rewards)),
    "dm of the logged actions": _changed("dm", lambda r: r.q_logged.mean()),
    "dr that adds the model to the reward": _changed(
        "dr", lambda r: np.mean(r.q_target + r.weights * (r.rewards + r.q_logged))
    ),
    "sndr with the direct part divided too": _changed(
        "sndr", lambda r: _dr_of(r, r.weights) / r.weights.mean()
    ),
    "switch_dr the other way round": _changed(
        "switch_dr", lambda r: _dr_of(r, np.where(r.weights > 1.3, r.weights, 0))
    ),
    "switch_dr that clips": _changed(
        "switch_dr", lambda r: _dr_of(r, np.minimum(r.weights, 1.3))
    ),
    "dros of w and not w^2": _changed(
        "dros", lambda r: _dr_of(r, 2.5 * r.weights / (r.weights + 2.5))
    ),
    "sg_dr without 1 - mixture": _changed(
        "sg_dr", lambda r: _dr_of(r, r.weights / (1 + 0.3 * r.weights))
    ),
    "clipped from below": _changed(
        "clipped_ips", lambda r: np.mean(np.maximum(r.weights, 1.3) * r.rewards)
    ),
}


def test_estimators_value():
    check_values(estimate)


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_estimators_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_values(wrong)


def check_unbiased(implementation):
    """The mean over all that can happen is the target's value, whatever q is."""
    for seed in range(3):
        world = reference.World.drawn(seed)
        q = np.random.default_rng(seed).random(world.reward.shape)
        for name in ("ips", "dr"):
            mean = 0.0
            for chance, x, a, r in world.outcomes():
                rounds = Rounds(
                    np.array([float(r)]),
                    np.array([world.target[x, a] / world.logging[x, a]]),
                    np.array([q[x, a]]),
                    np.array([world.target[x] @ q[x]]),
                )
                mean += chance * implementation(name, rounds)
            np.testing.assert_allclose(mean, world.value, rtol=1e-12, err_msg=name)


def test_ips_and_dr_are_unbiased():
    check_unbiased(estimate)


@pytest.mark.parametrize(
    "wrong",
    [
        _changed(
            "dr", lambda r: np.mean(r.q_logged + r.weights * (r.rewards - r.q_logged))
        ),
        _changed("ips", lambda r: np.mean(r.rewards)),
        _changed("dr", lambda r: np.mean(r.q_target)),
    ],
    ids=["direct part of what was shown", "no weights", "no correction"],
)
def test_unbiased_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_unbiased(wrong)


def test_estimators_meet_at_the_ends_of_their_parameters():
    rounds = _rounds()

    def of(name, parameter=None):
        return contributions(Estimator(name), rounds, parameter).value

    for name in ("switch_dr", "dros", "clipped_dr"):
        assert of(name, np.inf) == pytest.approx(of("dr"), rel=1e-12)
        assert of(name, 0) == pytest.approx(of("dm"), rel=1e-12)
    assert of("dros", 1e12) == pytest.approx(of("dr"), rel=1e-9)
    assert of("clipped_ips", np.inf) == of("ips")
    assert of("sg_ips", 0) == pytest.approx(of("ips"), rel=1e-12)


def test_doubly_robust_is_dm_without_residuals_and_ips_without_a_model():
    rounds = _rounds()
    perfect = dataclasses.replace(rounds, q_logged=rounds.rewards)
    assert estimate("dr", perfect) == pytest.approx(estimate("dm", perfect))
    nothing = np.zeros(len(rounds.rewards))
    blank = dataclasses.replace(rounds, q_logged=nothing, q_target=nothing)
    assert estimate("dr", blank) == pytest.approx(estimate("ips", blank))
    assert estimate("sndr", blank) == pytest.approx(estimate("snips", blank))


@pytest.mark.parametrize("name", ["ips", "snips", "dr", "sndr"])
def test_logging_policy_is_worth_its_mean_reward(name):
    rounds = _rounds()
    same = dataclasses.replace(
        rounds, weights=np.ones(len(rounds.rewards)), q_target=rounds.q_logged
    )
    assert estimate(name, same) == pytest.approx(rounds.rewards.mean(), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 1000))
def test_self_normalised_estimators_do_not_see_the_scale_of_propensities(scale, seed):
    rounds = _rounds(seed)
    scaled = dataclasses.replace(rounds, weights=rounds.weights * scale)
    for name in ("snips", "sndr"):
        assert estimate(name, scaled) == pytest.approx(estimate(name, rounds), rel=1e-9)


def check_influence(influence):
    """Leaving one round of many out moves the estimate by its influence, to first order."""
    rounds = _rounds(n=4000)
    for name in ("snips", "sndr", "dr", "ips"):
        parts = contributions(Estimator(name), rounds)
        shares = influence(parts)
        n = len(shares)
        for row in (0, 17, 23):
            kept = np.arange(n) != row
            without = Contributions(
                parts.direct[kept], parts.correction[kept], parts.normaliser[kept]
            ).value
            moved = (parts.value - without) * (n - 1)
            np.testing.assert_allclose(moved, shares[row] - parts.value, atol=5e-3)


def test_influence_value():
    check_influence(Contributions.influence)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda parts: parts.direct + parts.correction,
        lambda parts: parts.direct + parts.correction / parts.normaliser.mean(),
        lambda parts: 2 * parts.influence(),
    ],
    ids=["not normalised", "normaliser held for fixed", "doubled"],
)
def test_influence_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_influence(wrong)


def test_estimators_without_any_weight_say_what_the_model_says():
    rounds = dataclasses.replace(_rounds(), weights=np.zeros(60))
    for name in ("snips", "ips"):
        assert estimate(name, rounds) == 0.0
    for name in ("sndr", "dr", "dros"):
        assert estimate(name, rounds) == pytest.approx(rounds.q_target.mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"weights": np.array([1.0, -0.1])},
            r"`weights` should be 0 or more.*-0.1 in row 1",
        ),
        ({"weights": np.array([1.0, np.inf])}, r"`weights`.*inf in row 1"),
        ({"rewards": np.array([np.nan, 1.0])}, r"`rewards`.*nan in row 0"),
        ({"weights": np.ones(3)}, r"`weights` should be of the shape.*\(3,\)"),
        ({"q_logged": np.ones(2)}, "go together"),
    ],
)
def test_rounds_refuse(change, message):
    right = {"rewards": np.ones(2), "weights": np.ones(2)}
    with pytest.raises(ValueError, match=message):
        Rounds(**{**right, **change})


def test_rounds_refuse_an_empty_log():
    with pytest.raises(ValueError, match="at least one round"):
        Rounds(np.zeros(0), np.zeros(0))


def test_contributions_refuse_a_missing_or_superfluous_parameter():
    with pytest.raises(ValueError, match="`dros` takes a parameter"):
        contributions(Estimator.DROS, _rounds())
    with pytest.raises(ValueError, match="`dr` takes no parameter"):
        contributions(Estimator.DR, _rounds(), 1.0)
    bare = Rounds(np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="`dm` needs a reward model"):
        contributions(Estimator.DM, bare)


@pytest.mark.parametrize("change", [clipped, switched, shrunk, sub_gaussian])
def test_weights_refuse_a_negative_parameter(change):
    with pytest.raises(ValueError, match="should be .*-1"):
        change(np.ones(2), -1)

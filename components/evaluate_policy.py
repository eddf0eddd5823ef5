"""What policies would have earned on a log: CTR, xCTR, score and reward, with intervals.

LINE reports three figures of a policy [1] without saying how they are computed; here they
are, by the label of what was shown and a neutral label, that of a showing without an
answer:

    ctr    share of rows with a label above the neutral one (clicked)
    xctr   share of rows with a label below it (muted)
    score  ctr - mute_cost xctr

References:
    [1] Building a smart recommender system across LINE services. LINE DevDay 2019.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression

from components.gate import Check, GateResult
from components.policy_gate import CANDIDATE, LAST_RELEASE, LOGGED, judge_policy
from components.policy_gate_settings import Fallback, PolicyGateSettings
from components.policy_log import ShownRows
from components.release_policy import PolicyOnLog, ReleasePolicy
from models.bandit import mrdr
from models.bandit.off_policy import Evaluation, Log, Target, evaluate, logged_value
from models.bandit.reward_model import fitted_model, splits, user_folds
from models.bandit.slates import SlateError, SlateModel

_LEAST_SCORE = 1e-6


def metric_rewards(
    labels: np.ndarray, rewards: np.ndarray, neutral: float, mute_cost: float
) -> dict[str, np.ndarray]:
    """Returns [N] what each row earns, by metric.

    Args:
        labels: [N] of the rows.
        rewards: [N] of the rows.
        neutral: label of a showing without an answer.
        mute_cost: what a mute counts in `score`, in clicks.
    """
    clicked = (labels > neutral).astype(np.float64)
    muted = (labels < neutral).astype(np.float64)
    return {
        "score": clicked - mute_cost * muted,
        "ctr": clicked,
        "xctr": muted,
        "reward": rewards.astype(np.float64),
    }


@dataclasses.dataclass(frozen=True)
class RewardModels:
    """What a model of the reward says of a policy's choices.

    Attributes:
        q_logged: [N] of what was logged.
        q_target: [N] mean over what the policy put there itself.
    """

    q_logged: np.ndarray
    q_target: np.ndarray


def reward_models(
    policy: PolicyOnLog,
    positions: np.ndarray,
    rewards: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray | None = None,
) -> RewardModels:
    """Fits the reward to the ranker's score and the place, never on what it predicts.

    The ranker never saw the test split, so its score is a feature like any other.

    Args:
        policy: on the log.
        positions: [N] int.
        rewards: [N].
        folds: [N] int.
        weights: [N] of the rounds in the fit.
    """
    places = np.unique(positions)
    one_hot = (positions[:, np.newaxis] == places[1:]).astype(np.float64)

    def features(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        bounded = np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE)
        return np.c_[np.log(bounded / (1 - bounded)), one_hot[rows]]

    is_binary = np.isin(rewards, (0, 1)).all()
    model = LogisticRegression(max_iter=1000) if is_binary else LinearRegression()
    num_draws = policy.drawn_scores.shape[1]
    logged, target = np.zeros(len(rewards)), np.zeros(len(rewards))
    for fitted, predicted in splits(folds):
        chosen = None if weights is None else weights[fitted]
        q = fitted_model(
            model,
            features(policy.scores[fitted], fitted),
            rewards[fitted],
            chosen,
        )
        logged[predicted] = q(features(policy.scores[predicted], predicted))
        for draw in range(num_draws):
            own = policy.drawn_scores[predicted, draw]
            target[predicted] += q(features(own, predicted)) / num_draws
    return RewardModels(logged, target)


# Gives a policy on the log for rewards [N] and folds [N]; None for too few users to fold.
TargetOf = Callable[[np.ndarray, np.ndarray | None], Target]


def evaluate_policies(
    rows: ShownRows,
    policies: Mapping[str, TargetOf],
    neutral: float,
    settings: PolicyGateSettings,
) -> dict[str, dict[str, Evaluation]]:
    """Returns {metric: {policy: evaluation}}.

    Args:
        rows: the log, at least one.
        policies: by name, see `of_release`.
        neutral: label of a showing without an answer.
        settings: of the gate.

    Raises:
        SlateError: if slates lack places, where their chances multiply.
    """
    slates = SlateModel(settings.places.value)
    options = settings.evaluation
    earned = metric_rewards(rows.labels, rows.rewards, neutral, settings.mute_cost)
    folds = None
    if len(np.unique(rows.users)) >= options.num_folds:
        folds = user_folds(rows.users, options.num_folds, options.seed)
    logs = {metric: log_of(rows, rewards) for metric, rewards in earned.items()}
    return {
        metric: {
            name: evaluate(log, target_of(log.rewards, folds), options, slates)
            for name, target_of in policies.items()
        }
        for metric, log in logs.items()
    }


def log_of(rows: ShownRows, rewards: np.ndarray) -> Log:
    """Returns the rows as estimators read them, with the rewards of a metric."""
    _, users = np.unique(rows.users, return_inverse=True)
    return Log(rewards, rows.propensities, users, rows.positions, rows.requests)


def of_release(rows: ShownRows, policy: PolicyOnLog) -> TargetOf:
    """Returns a release's policy on the log, with its reward models."""

    def target(rewards: np.ndarray, folds: np.ndarray | None) -> Target:
        if folds is None:
            return Target(policy.propensities)
        weights = mrdr.weights(policy.propensities, rows.propensities)
        if weights.any():
            weights = weights / weights.mean()
        plain = reward_models(policy, rows.positions, rewards, folds)
        robust = reward_models(policy, rows.positions, rewards, folds, weights)
        return Target(
            policy.propensities,
            plain.q_logged,
            plain.q_target,
            robust.q_logged,
            robust.q_target,
        )

    return target


def figures_of(
    rows: ShownRows,
    evaluations: Mapping[str, Mapping[str, Evaluation]],
    neutral: float,
    settings: PolicyGateSettings,
) -> dict:
    """Returns the figures as `metrics.json` holds them.

    Returns:
        {"log": {"rows", "rows_without_propensity", "users", "clicks", "mutes"},
        "definitions": {metric: sentence}, "logged": {metric: {"value", "interval"}},
        "policies": {name: {"effective_rows", ..., "findings", "positions",
        "metrics": {metric: {estimator: {"value", "interval", "standard_error",
        "parameter"}}}}}}.
    """
    earned = metric_rewards(rows.labels, rows.rewards, neutral, settings.mute_cost)
    figures: dict = {
        "log": {
            "rows": len(rows.users),
            "rows_without_propensity": rows.num_without,
            "users": len(np.unique(rows.users)),
            "clicks": int(earned["ctr"].sum()),
            "mutes": int(earned["xctr"].sum()),
        },
        "definitions": {
            "ctr": f"share of rows with a label above {neutral:g}",
            "xctr": f"share of rows with a label below {neutral:g}",
            "score": f"ctr - {settings.mute_cost:g} xctr",
            "reward": "mean reward of a row",
        },
        LOGGED: {},
        "policies": {},
    }
    for metric, by_policy in evaluations.items():
        estimate, _ = logged_value(log_of(rows, earned[metric]), settings.evaluation)
        interval = [estimate.low, estimate.high]
        figures[LOGGED][metric] = {"value": estimate.value, "interval": interval}
        for name, evaluation in by_policy.items():
            of_policy = figures["policies"].setdefault(name, _diagnosed(evaluation))
            of_policy["metrics"][metric] = {
                key: {
                    "value": each.value,
                    "interval": [each.low, each.high],
                    "standard_error": each.standard_error,
                    "parameter": each.parameter,
                }
                for key, each in evaluation.estimates.items()
            }
    return figures


def judged_policies(
    rows: ShownRows,
    policies: Mapping[str, ReleasePolicy],
    neutral: float,
    settings: PolicyGateSettings,
) -> tuple[dict, GateResult]:
    """Asks releases about a log; returns the figures and the gate's answer.

    Args:
        rows: the log.
        policies: `candidate` and, where there is one, `last_release`; empty where the log
            has no row.
        neutral: label of a showing without an answer.
        settings: of the gate.
    """
    if not policies:
        log = {"rows": 0, "rows_without_propensity": rows.num_without}
        return {"log": log}, judge_policy({}, None, settings)
    slates, options = SlateModel(settings.places.value), settings.evaluation
    on_log = {
        name: policy.on_log(rows, slates, settings.num_draws, options.seed)
        for name, policy in policies.items()
    }
    targets = {name: of_release(rows, policy) for name, policy in on_log.items()}
    try:
        found = evaluate_policies(rows, targets, neutral, settings)
    except SlateError as error:
        check = Check(
            "places of the log's slates",
            settings.with_weak_log is Fallback.ALLOW,
            str(error).rstrip("."),
            "whole slates, or `gates.policy.places: independent`",
        )
        log = {"rows": len(rows.users), "rows_without_propensity": rows.num_without}
        return {"log": log}, GateResult("policy", (check,))
    earned = metric_rewards(rows.labels, rows.rewards, neutral, settings.mute_cost)
    logged, _ = logged_value(log_of(rows, earned[settings.metric]), options)
    is_same = LAST_RELEASE in on_log and np.array_equal(
        on_log[CANDIDATE].propensities, on_log[LAST_RELEASE].propensities
    )
    result = judge_policy(found[settings.metric], logged, settings, is_same)
    return figures_of(rows, found, neutral, settings), result


def _diagnosed(evaluation: Evaluation) -> dict:
    facts = evaluation.diagnostics
    return {
        "effective_rows": facts.effective_rounds,
        "mean_weight": facts.mean_weight,
        "mean_weight_error": facts.mean_weight_error,
        "largest_weight": facts.largest_weight,
        "zero_weight_share": facts.zero_weight_share,
        "findings": [
            {"name": f.name, "level": f.level.value, "sentence": f.sentence}
            for f in facts.findings
        ],
        "positions": {str(place): each for place, each in evaluation.positions.items()},
        "metrics": {},
    }

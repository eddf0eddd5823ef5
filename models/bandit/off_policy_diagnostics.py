"""Whether a log can tell what a policy would have earned; each finding says why.

An estimator gives a number for any input. Where hardly any round of the log agrees with
the target policy, or the propensities are not those that served, the number means nothing,
and nobody sees it by looking at it.

References:
    [1] Owen. Monte Carlo Theory, Methods and Examples. 2013. Section 9.3. (effective
        sample size)
    [2] Li et al. Unbiased Offline Evaluation of Contextual-bandit-based News Article
        Recommendation Algorithms. WSDM 2011. (mean weight as a check of propensities)
"""

import dataclasses
import enum
import math
from collections.abc import Iterator

import numpy as np

from models.bandit.estimators import Contributions
from models.bandit.off_policy_intervals import standard_error
from models.bandit.off_policy_settings import OffPolicySettings


class Level(enum.Enum):
    """What a finding means for the estimates."""

    WARN = "warn"  # read the intervals with care
    REFUSE = "refuse"  # do not read them


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that speaks against an estimate, in one sentence."""

    name: str
    level: Level
    sentence: str


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Facts about weights, and what follows from them.

    Attributes:
        num_rounds: N.
        effective_rounds: (sum w)^2 / sum w^2, the size of a sample of the target policy
            that would be as sure.
        largest_weight: max w.
        largest_weight_share: max w / sum w.
        mean_weight: mean w, 1 but for chance where propensities are right and the log
            shows all that the target would.
        mean_weight_error: its standard error.
        zero_weight_share: rounds that tell nothing by their weight.
        unsupported: share of the target's choices that the log cannot show; NaN where
            that is not known.
        findings: what speaks against the estimates.
    """

    num_rounds: int
    effective_rounds: float
    largest_weight: float
    largest_weight_share: float
    mean_weight: float
    mean_weight_error: float
    zero_weight_share: float
    unsupported: float
    findings: tuple[Finding, ...]

    @property
    def is_refused(self) -> bool:
        """Whether the estimates mean nothing."""
        return any(finding.level is Level.REFUSE for finding in self.findings)


def check_propensities(propensities: np.ndarray, name: str = "propensities") -> None:
    """Raises ValueError where a chance of what was shown is not in (0, 1]."""
    wrong = ~((propensities > 0) & (propensities <= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"`{name}` should be in (0, 1]: what was shown had a chance. Received: "
            f"{propensities[row]} in row {row}, and {int(wrong.sum()) - 1} others"
        )


def check_target(propensities: np.ndarray, name: str = "target") -> None:
    """Raises ValueError where a chance of the target policy is not in [0, 1]."""
    wrong = ~((propensities >= 0) & (propensities <= 1 + 1e-6))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"`{name}` should be in [0, 1]. Received: {propensities[row]} in row {row}, "
            f"and {int(wrong.sum()) - 1} others"
        )


def unsupported_mass(target: np.ndarray, logging: np.ndarray) -> float:
    """Returns the share of the target's choices that the log never shows.

    Args:
        target: [N, A] pi_e.
        logging: [N, A] pi_b.
    """
    return float(np.where(logging > 0, 0.0, target).sum(axis=1).mean())


def effective_rounds(weights: np.ndarray) -> float:
    """Returns (sum w)^2 / sum w^2; 0 where no round has a weight."""
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0


def diagnose(
    weights: np.ndarray,
    users: np.ndarray,
    settings: OffPolicySettings,
    unsupported: float = math.nan,
) -> Diagnostics:
    """Returns the facts about a log's weights, and what speaks against it.

    Args:
        weights: [N] w_i.
        users: [N] whose round it is.
        settings: the bounds.
        unsupported: see `unsupported_mass`.
    """
    total = float(weights.sum())
    ones = np.ones(len(weights))
    mean = Contributions(np.zeros(len(weights)), weights, ones)
    facts = Diagnostics(
        num_rounds=len(weights),
        effective_rounds=effective_rounds(weights),
        largest_weight=float(weights.max()),
        largest_weight_share=float(weights.max()) / total if total > 0 else math.nan,
        mean_weight=mean.value,
        mean_weight_error=standard_error(mean, users),
        zero_weight_share=float((weights == 0).mean()),
        unsupported=unsupported,
        findings=(),
    )
    return dataclasses.replace(facts, findings=tuple(_findings(facts, settings)))


def by_position(
    rewards: np.ndarray, weights: np.ndarray, positions: np.ndarray
) -> dict[int, dict[str, float]]:
    """Returns what the log holds at each place of a slate.

    Returns:
        {position: {"rounds", "effective_rounds", "mean_weight", "largest_weight",
        "logged", "ips"}}; the last two are mean rewards, of the logging policy and as
        `ips` has them of the target.
    """
    found = {}
    for position in np.unique(positions):
        here = positions == position
        inside = weights[here]
        found[int(position)] = {
            "rounds": int(here.sum()),
            "effective_rounds": effective_rounds(inside),
            "mean_weight": float(inside.mean()),
            "largest_weight": float(inside.max()),
            "logged": float(rewards[here].mean()),
            "ips": float((inside * rewards[here]).mean()),
        }
    return found


def _findings(facts: Diagnostics, settings: OffPolicySettings) -> Iterator[Finding]:
    """Yields what speaks against the estimates."""
    size, share = facts.effective_rounds, facts.effective_rounds / facts.num_rounds
    seen = f"{size:,.0f} of {facts.num_rounds:,} rounds are effective"
    if size < settings.min_effective_rounds:
        bound = f"at least {settings.min_effective_rounds:,g} are needed"
        yield Finding("effective sample size", Level.REFUSE, f"{seen}; {bound}.")
    elif share < settings.warn_effective_share:
        bound = f"below {settings.warn_effective_share:.0%}"
        yield Finding("effective sample size", Level.WARN, f"{seen}, {bound}.")
    weight = facts.largest_weight_share
    if weight > settings.warn_weight_share:
        refused = weight > settings.max_weight_share
        bound = settings.max_weight_share if refused else settings.warn_weight_share
        sentence = f"one round has {weight:.1%} of all weights; at most {bound:.1%}."
        level = Level.REFUSE if refused else Level.WARN
        yield Finding("largest weight", level, sentence)
    if facts.unsupported > settings.max_unsupported / 10:
        refused = facts.unsupported > settings.max_unsupported
        sentence = (
            f"the log cannot show {facts.unsupported:.2%} of what the policy would; at "
            f"most {settings.max_unsupported:.2%}."
        )
        level = Level.REFUSE if refused else Level.WARN
        yield Finding("support", level, sentence)
    if facts.mean_weight_error > 0 and math.isfinite(facts.mean_weight_error):
        away = abs(facts.mean_weight - 1) / facts.mean_weight_error
    else:
        away = 0.0 if abs(facts.mean_weight - 1) < 1e-6 else math.inf
    if away > settings.max_mean_weight_errors / 2:
        refused = away > settings.max_mean_weight_errors
        sentence = (
            f"the mean weight is {facts.mean_weight:.3f}, {away:.1f} standard errors from "
            "1: propensities are not those that served, or the policy shows what the log "
            "does not."
        )
        level = Level.REFUSE if refused else Level.WARN
        yield Finding("mean weight", level, sentence)

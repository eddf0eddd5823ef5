"""Whether a release's policy may replace the one that serves: by the log of what was shown."""

import math

from components.gate import Check, GateResult
from components.policy_gate_settings import Fallback, PolicyGateSettings
from models.bandit.off_policy import Estimate, Evaluation
from models.bandit.off_policy_diagnostics import Level

_CANNOT_JUDGE = (
    "It cannot judge: the log has no propensities, and `gates.policy.without_propensities` "
    "allows that."
)
_WEAK = "It cannot judge: the log is too weak, and `gates.policy.with_weak_log` allows that."
CANDIDATE, LAST_RELEASE, LOGGED = "candidate", "last_release", "logged"


def judge_policy(
    evaluations: dict[str, Evaluation],
    logged: Estimate | None,
    settings: PolicyGateSettings,
    is_same: bool = False,
) -> GateResult:
    """Decides whether the candidate may replace the incumbent.

    Args:
        evaluations: of the metric, by policy: `candidate`, and `last_release` where
            there is one; empty where the log has no propensities.
        logged: what the log earned; None without a row that has a propensity.
        settings: the gate's.
        is_same: whether the candidate does in every row what the last release does: a run
            that is repeated, or whose changes do not reach what is shown.
    """
    if logged is None or CANDIDATE not in evaluations:
        allowed = settings.without_propensities is Fallback.ALLOW
        check = Check(
            "propensities in the log",
            allowed,
            "none, so the policy cannot be judged",
            "some, or `gates.policy.without_propensities: allow`",
        )
        return GateResult("policy", (check,), _CANNOT_JUDGE if allowed else "")
    if is_same:
        seen = "the chances of the last release, in every row"
        return GateResult("policy", (Check("what is shown", True, seen, "any"),))
    weak = [
        Check(
            f"{finding.name} of {name.replace('_', ' ')}",
            settings.with_weak_log is Fallback.ALLOW,
            finding.sentence.rstrip("."),
            "a log that can tell, or `gates.policy.with_weak_log: allow`",
        )
        for name, evaluation in evaluations.items()
        for finding in evaluation.diagnostics.findings
        if finding.level is Level.REFUSE
    ]
    if weak:
        allowed = settings.with_weak_log is Fallback.ALLOW
        return GateResult("policy", tuple(weak), _WEAK if allowed else "")
    candidate = evaluations[CANDIDATE].estimates[settings.estimator]
    incumbent, who = logged, LOGGED
    if LAST_RELEASE in evaluations:
        incumbent = evaluations[LAST_RELEASE].estimates[settings.estimator]
        who = LAST_RELEASE
    return GateResult("policy", (_comparison(candidate, incumbent, who, settings),))


def _comparison(
    candidate: Estimate, incumbent: Estimate, who: str, settings: PolicyGateSettings
) -> Check:
    """Returns the check of the candidate's worst likely value."""
    name = f"{settings.metric} against {who.replace('_', ' ')}"
    shown = f"{candidate.value:.5f} ({candidate.low:.5f} to {candidate.high:.5f})"
    slack = settings.margin * abs(incumbent.value)
    if settings.metric == "xctr":
        bound = incumbent.value - slack
        return Check(name, _holds(candidate.high <= bound), shown, f"<= {bound:.5f}")
    bound = incumbent.value + slack
    return Check(name, _holds(candidate.low >= bound), shown, f">= {bound:.5f}")


def _holds(value: bool) -> bool:
    return bool(value) and not math.isnan(value)

"""What off-policy evaluation said of one release after the other.

`<root>/report/policies.json` holds the estimates, and TensorBoard draws them. A release's
estimates are by the log before it: neighbours differ in their logs too.
"""

import json
import shutil
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from components.policy_board import JudgedRelease, write_releases
from components.policy_gate import CANDIDATE, LOGGED
from pipeline.layout import Layout

# Of everything that is estimated, what is followed from release to release.
_FOLLOWED = ("snips", "dr", "mrdr")


class JudgedPolicy(BaseModel):
    """What a run's log said of the policy that it exported.

    Attributes:
        config: name of the run's.
        release: version that was pushed; None where a gate refused.
        rows, effective_rows: of the log, and what its weights leave of them.
        logged: value and interval of what the log earned, by metric.
        estimates: the same of the policy, by metric and estimator.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str
    release: int | None
    rows: int
    effective_rows: float
    logged: dict[str, tuple[float, float, float]]
    estimates: dict[str, dict[str, tuple[float, float, float]]]


def judged_policy(config_name: str, figures: dict) -> JudgedPolicy | None:
    """Returns what a run's figures say of its policy; None if they do not.

    Args:
        config_name: of the run.
        figures: of the run, as `report.collect_figures` returns them.
    """
    found = figures.get("policy", {})
    candidate = found.get("policies", {}).get(CANDIDATE)
    if candidate is None:
        return None
    return JudgedPolicy(
        config=config_name,
        release=figures.get("release"),
        rows=found["log"]["rows"],
        effective_rows=candidate["effective_rows"],
        logged={metric: _interval(each) for metric, each in found[LOGGED].items()},
        estimates={
            metric: {
                name: _interval(by_estimator[name])
                for name in _FOLLOWED
                if name in by_estimator
            }
            for metric, by_estimator in candidate["metrics"].items()
        },
    )


def record_policy(layout: Layout, judged: JudgedPolicy) -> list[JudgedPolicy]:
    """Adds a run's policy to the root's history, and draws the history of its config.

    A release that is judged again takes its own place; a refused policy stays until the
    next run.

    Returns:
        the history of the config, oldest first.
    """
    kept = [
        each
        for each in read_policies(layout)
        if each.config != judged.config or each.release not in (None, judged.release)
    ]
    # Versions grow with time; a policy that became no release is the latest.
    everything = [*kept, judged]
    everything.sort(key=lambda each: (each.release is None, each.release or 0))
    layout.policies.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([each.model_dump() for each in everything], indent=2)
    layout.policies.write_text(f"{text}\n")
    own = [each for each in everything if each.config == judged.config]
    board = layout.policy_board(judged.config)
    shutil.rmtree(board, ignore_errors=True)  # else TensorBoard shows the old beside it
    write_releases(list(_named(own)), str(board))
    return own


def read_policies(layout: Layout) -> list[JudgedPolicy]:
    """Returns the root's history, of all configs."""
    if not layout.policies.is_file():
        return []
    found = json.loads(layout.policies.read_text())
    return [JudgedPolicy.model_validate(each) for each in found]


def _named(history: Iterable[JudgedPolicy]) -> Iterable[JudgedRelease]:
    for each in history:
        name = "refused" if each.release is None else f"release {each.release}"
        yield JudgedRelease(name, each.logged, each.estimates)


def _interval(found: dict) -> tuple[float, float, float]:
    return (found["value"], *found["interval"])

"""The search itself: which values are tried next, and what came of those before.

KerasTuner's oracle proposes, seeded, so that a search that is started again proposes the
same. A trial's outcome is written down as it ends, by the settings it was of: what was
tried is never tried twice, by a search that was killed, or given more trials, or another
space over the same rows.
"""

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from models.tuning.space import SearchSpace, with_values
from models.tuning_settings import TuningSettings

_MAX_FAILURES = 5  # in a row
_OUTCOME = "outcome.json"


class TrialError(Exception):
    """A trial that cannot be judged, by its own settings; the search goes on."""


class TuningError(Exception):
    """A search that cannot go on; the message says what to do."""


class OutOfTime(Exception):
    """A trial was stopped by the deadline, and can be gone on with."""


class Deadline:
    """When no more may be begun.

    Args:
        minutes: from now on; None is never.
    """

    def __init__(self, minutes: float | None) -> None:
        self._end = float("inf") if minutes is None else time.monotonic() + 60 * minutes

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end


@dataclasses.dataclass(frozen=True)
class Objective:
    """The figure of the eval split that decides.

    Attributes:
        name: its key among a trial's metrics.
        is_loss: whether less is better.
    """

    name: str
    is_loss: bool

    def gain(self, metrics: dict[str, float], over: dict[str, float]) -> float:
        """Returns by how much one is better than the other; above 0 if it is."""
        difference = metrics[self.name] - over[self.name]
        return -difference if self.is_loss else difference


@dataclasses.dataclass(frozen=True)
class Trial:
    """What some values came to.

    Attributes:
        number: in the order of the search; 0 is the config as it is.
        values: by the path below the section; none in trial 0.
        metrics: of the eval split; none where it failed.
        failure: why it failed.
        seconds: that it took, from its last start on.
        folder: holds what it left.
    """

    number: int
    values: dict[str, Any]
    metrics: dict[str, float]
    failure: str
    seconds: float
    folder: Path


# Trains by settings, with a folder to keep things in; returns the eval split's metrics.
Attempt = Callable[[Any, Path], dict[str, float]]


def run_search(
    space: SearchSpace,
    tuning: TuningSettings,
    objective: Objective,
    folder: Path,
    attempt: Attempt,
    deadline: Deadline,
) -> Iterator[Trial]:
    """Yields the trials as they end, the config as it is first.

    Args:
        space: what is varied.
        tuning: how, and how often.
        objective: what is made better.
        folder: of the rows; trials that it already holds are not run again.
        attempt: raises `TrialError` where the settings are to blame, and `OutOfTime`
            where it was stopped and can be gone on with in its folder.
        deadline: after which no trial begins.

    Raises:
        TuningError: if too many trials in a row failed.
        OutOfTime: if the deadline came before the search's end.
    """
    # KerasTuner takes seconds to import, and a config that is wrong none to be refused.
    from models.tuning.oracle import make_oracle, proposed_values

    first = _trial(0, {}, space, folder, attempt, deadline)
    yield first
    oracle = make_oracle(
        space, tuning, objective.name, objective.is_loss, folder, _MAX_FAILURES
    )
    seen = {first.folder}
    while len(seen) <= tuning.trials:
        proposal = oracle.create_trial("tandem")
        if proposal.status == "STOPPED":
            return
        values = proposed_values(space, proposal.hyperparameters)
        trial = _trial(len(seen), values, space, folder, attempt, deadline)
        if trial.failure:
            proposal.status, proposal.message = "FAILED", trial.failure
        else:
            oracle.update_trial(proposal.trial_id, trial.metrics)
            proposal.status = "COMPLETED"
        if trial.folder not in seen:
            seen.add(trial.folder)
            yield trial
        try:
            oracle.end_trial(proposal)
        except RuntimeError as error:
            raise TuningError(
                f"{_MAX_FAILURES} trials in a row failed, the last one so: "
                f"{trial.failure} Look at the ranges of `tuning.space`."
            ) from error


def _trial(
    number: int,
    values: dict[str, Any],
    space: SearchSpace,
    folder: Path,
    attempt: Attempt,
    deadline: Deadline,
) -> Trial:
    """Returns what the values came to, now or in an earlier call."""
    try:
        settings = with_values(space.settings, values)
    except ValidationError as error:
        # Each of the values may be, but not all of them together.
        text = space.settings.model_dump_json() + json.dumps(values, sort_keys=True)
        reason = " ".join(problem["msg"] for problem in error.errors())
        return Trial(number, values, {}, reason, 0.0, _place(folder, text))
    own = _place(folder, _canonical(space.section, settings))
    outcome = own / _OUTCOME
    if not outcome.exists():
        if deadline.is_over:
            raise OutOfTime
        own.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        metrics, failure = {}, ""
        try:
            metrics = attempt(settings, own)
        except TrialError as error:
            failure = str(error)
        seconds = time.monotonic() - began
        _write(outcome, {"metrics": metrics, "failure": failure, "seconds": seconds})
    return Trial(number, values, **json.loads(outcome.read_text()), folder=own)


def _canonical(section: str, settings: BaseModel) -> str:
    return f"{section} {settings.model_dump_json()}"


def _place(folder: Path, text: str) -> Path:
    return folder / hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(path: Path, content: dict) -> None:
    """Writes a file that is there whole, or not at all."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content, indent=2) + "\n")
    os.replace(unfinished, path)

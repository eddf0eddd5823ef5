"""`tandem tune`: a search over settings, on the rows the pipeline itself prepared."""

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import yaml

from components.gate import GateResult
from components.read_examples import split_files
from models.preprocessing import TransformGraph
from models.retrieval.intervals import UserBootstrap
from models.tuning import board, trials
from models.tuning.search import (
    Deadline,
    Objective,
    OutOfTime,
    Trial,
    TuningError,
    run_search,
)
from models.tuning.space import SearchSpace, overlay, search_space
from pipeline.config import TandemConfig
from pipeline.layout import Layout
from pipeline.library_log import library_log
from pipeline.local_runner import StageStarted, run_pipeline

_LAST_STAGE = "Transform"
_ROWS = {"ranking": "impressions", "retrieval": "interactions"}
_ATTEMPTS = {"ranking": trials.try_ranking, "retrieval": trials.try_retrieval}


@dataclasses.dataclass(frozen=True)
class TuningResult:
    """What a search has found.

    Attributes:
        section: of the config, `ranking` or `retrieval`.
        objective: what was made better, on the eval split.
        trials: in order; the first is the config as it is.
        best: the best of them.
        gain: of the best over the first; never negative.
        interval: 95 %, of the gain, users resampled; None where rows were not kept. The
            same rows chose the best, so the gain is flattering all the same.
        overlay: file of what to lay over the config; None where the config is best.
        refused: gates that stopped the run before there was anything to learn from.
        is_out_of_time: whether the minutes ended the search.
    """

    section: str
    objective: Objective
    trials: list[Trial]
    best: Trial | None
    gain: float
    interval: list[float] | None
    overlay: Path | None
    refused: list[GateResult]
    is_out_of_time: bool

    def as_json(self) -> dict:
        """Returns all of it as one JSON object."""
        return {
            "section": self.section,
            "objective": self.objective.name,
            "best": None if self.best is None else self._row(self.best),
            "gain": self.gain,
            "interval": self.interval,
            "overlay": None if self.overlay is None else str(self.overlay),
            "is_out_of_time": self.is_out_of_time,
            "trials": [self._row(trial) for trial in self.trials],
        }

    def _row(self, trial: Trial) -> dict:
        row = dataclasses.asdict(trial) | {"folder": str(trial.folder)}
        row["values"] = {f"{self.section}.{k}": v for k, v in trial.values.items()}
        return row


def tune(
    config: TandemConfig,
    root: Path,
    on_stage: StageStarted = lambda stage: None,
    on_trial: Callable[[SearchSpace, Trial], None] = lambda space, trial: None,
) -> TuningResult:
    """Runs the pipeline through Transform, then searches; goes on where it was killed.

    Args:
        config: with which values; its `tuning.space` names what is searched.
        root: as of `run_pipeline`; receives the trials.
        on_stage: called with the name of each stage as it starts.
        on_trial: called with each trial as it ends.

    Raises:
        TuningError: if no trial could be judged.
    """
    sections = {"ranking": config.ranking, "retrieval": config.retrieval}
    space = search_space(config.tuning.space, sections)
    objective = trials.OBJECTIVES[space.section]
    run = run_pipeline(config, root, on_stage, until=_LAST_STAGE)
    if run.refused:
        return TuningResult(
            space.section, objective, [], None, 0.0, None, None, run.refused, False
        )
    examples = run.stages["IngestEvents"].outputs[_ROWS[space.section]]
    transform = run.stages[_LAST_STAGE].outputs["transform_graph"]
    layout = Layout(root.resolve())
    folder = layout.tuning(config.name) / _fingerprint(config, examples, transform)
    folder.mkdir(parents=True, exist_ok=True)
    rows = trials.Rows(
        TransformGraph(transform, config.features),
        split_files(examples, "train"),
        split_files(examples, "eval"),
    )
    with library_log(layout.log):
        found, is_out_of_time = _search(
            config, space, objective, folder, rows, on_trial
        )
    return _result(space, objective, found, folder, is_out_of_time)


def _fingerprint(config: TandemConfig, *uris: str) -> str:
    """Names what trials share: those of other rows are none of this search's."""
    text = json.dumps([config.features.model_dump_json(), *uris])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _search(
    config: TandemConfig,
    space: SearchSpace,
    objective: Objective,
    folder: Path,
    rows: trials.Rows,
    on_trial: Callable[[SearchSpace, Trial], None],
) -> tuple[list[Trial], bool]:
    """Returns the trials, and whether the minutes ended the search."""
    deadline = Deadline(config.tuning.minutes)

    def attempt(settings, own: Path) -> dict[str, float]:
        return _ATTEMPTS[space.section](settings, own, rows, deadline)

    found: list[Trial] = []
    board.describe(folder, space, objective)
    try:
        for trial in run_search(
            space, config.tuning, objective, folder, attempt, deadline
        ):
            if trial.metrics:
                board.show(space, trial)
            found.append(trial)
            on_trial(space, trial)
    except OutOfTime:
        return found, True
    return found, False


def _result(
    space: SearchSpace,
    objective: Objective,
    found: list[Trial],
    folder: Path,
    is_out_of_time: bool,
) -> TuningResult:
    judged = [trial for trial in found if trial.metrics]
    if not judged:
        if is_out_of_time:
            raise TuningError(
                "no trial came to its end in `tuning.minutes`. The same command goes on "
                "with it; give more minutes, or lower `max_epochs`."
            )
        raise TuningError(f"the config as it is cannot be trained: {found[0].failure}")
    best = judged[0]
    for trial in judged[1:]:
        if objective.gain(trial.metrics, over=best.metrics) > 0:
            best = trial
    file = folder / "best.yaml"
    file.unlink(missing_ok=True)
    if best.values:
        values = overlay(space.section, best.values)
        file.write_text(yaml.safe_dump(values, sort_keys=False))
    first = found[0]
    gain = objective.gain(best.metrics, over=first.metrics) if first.metrics else 0.0
    return TuningResult(
        section=space.section,
        objective=objective,
        trials=found,
        best=best,
        gain=gain,
        interval=_interval(best, first),
        overlay=file if best.values else None,
        refused=[],
        is_out_of_time=is_out_of_time,
    )


def _interval(best: Trial, first: Trial) -> list[float] | None:
    """Returns the interval of how much less one loses than the other, on the same rows."""
    rows, others = trials.row_losses(best.folder), trials.row_losses(first.folder)
    if rows is None or others is None or best is first:
        return None
    (users, losses), (_, first_losses) = rows, others
    less = (first_losses - losses)[:, None]
    return UserBootstrap(users).intervals(less)[0, 0].tolist()


def next_command(result: TuningResult, config_path: str, root: Path) -> str:
    """Returns what to type to run with what was found."""
    words = ["tandem", "run", "--config", config_path, "--root", str(root)]
    return shlex.join([*words, "--set", f"@{result.overlay}"])

"""What a Bayesian FM's next training starts from: the posterior that a release serves.

The tables are those of the served `ranking` itself. Beside them, among the SavedModel's
extra assets, which no server reads, `posterior.json` says what they have learnt from.
"""

from pathlib import Path
from typing import Any

import tensorflow as tf
from pydantic import BaseModel, ConfigDict

from models.bandit.bayesian_fm import BayesianFM
from models.continuation import (
    MEND,
    ContinuationError,
    check_settings,
    check_unseen,
)
from models.ranking.settings import RankingSettings
from models.retrieval.warm_start import grown_rows

EXTRA_ASSETS = "assets.extra"
_RECORD = "posterior.json"
# What may change from one release to the next: it says how a batch is learnt, not what
# the tables mean.
_FREE_SETTINGS = frozenset(
    {"forgetting", "newton_steps", "solver_steps", "initial_deviation"}
)
_KNOWN = "the posterior to continue from"


class PosteriorRecord(BaseModel):
    """What must be known of a posterior to learn on from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: dict[str, Any]  # see `settings_of`
    field_rows: dict[str, int]  # of the tables, in order
    trained_through: int  # ms, the timestamp of the newest row ever learnt from
    continued_from: int | None  # `trained_through` of the posterior before
    num_rows: int  # learnt from since


def settings_of(settings: RankingSettings) -> dict[str, Any]:
    """Returns the settings that tables have a meaning by, by their place in a config."""
    section = settings.bayesian_fm.model_dump(mode="json", exclude=_FREE_SETTINGS)
    named = {f"ranking.bayesian_fm.{name}": value for name, value in section.items()}
    return {"ranking.target": settings.target.value, **named}


def write_record(model_dir: Path, record: PosteriorRecord) -> None:
    """Writes the record into the folder of a SavedModel."""
    folder = model_dir / EXTRA_ASSETS
    folder.mkdir(exist_ok=True)
    (folder / _RECORD).write_text(record.model_dump_json(indent=1) + "\n")


def read_record(model_dir: Path) -> PosteriorRecord | None:
    """Reads the record in a SavedModel's folder; None where it has no posterior."""
    path = model_dir / EXTRA_ASSETS / _RECORD
    if not path.is_file():
        return None
    return PosteriorRecord.model_validate_json(path.read_text())


def check_continuable(
    record: PosteriorRecord, settings: RankingSettings, until: int
) -> None:
    """Checks that learning can go on from a posterior under a config.

    Args:
        record: of the release.
        settings: of the config.
        until: ms; what may be learnt from lies before it.

    Raises:
        ContinuationError: naming the first setting that stands against it, or that the
            release has learnt from rows at `until` or after.
    """
    check_settings(settings_of(settings), record.settings, f"{_KNOWN} was learnt")
    check_unseen(record.trained_through, until, _KNOWN, "rows")


def restore(model_dir: Path, ranker: BayesianFM) -> None:
    """Gives a ranker the posterior of a release; values that are new stay at the prior.

    Args:
        model_dir: the SavedModel of `RankingModule`, with a record.
        ranker: fresh, of the same features, whose vocabularies hold the release's where
            they stood.

    Raises:
        ContinuationError: if the ranker has other fields, or a vocabulary has shrunk.
    """
    record = read_record(model_dir)
    if record is None or list(record.field_rows) != list(ranker.field_rows):
        before = list(record.field_rows) if record else "none"
        raise ContinuationError(
            f"{_KNOWN} should have the fields "
            f"{list(ranker.field_rows)}. Received: {before}; {MEND}."
        )
    known = tf.saved_model.load(str(model_dir)).model
    sizes = [list(rows.values()) for rows in (record.field_rows, ranker.field_rows)]
    for table, values in (
        (ranker.means, known.means),
        (ranker.precisions, known.precisions),
    ):
        table.assign(grown_rows(values.numpy(), table.numpy(), *sizes))

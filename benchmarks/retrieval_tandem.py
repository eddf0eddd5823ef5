"""Tandem as a contender: its own pipeline with a shipped config, up to the saved model.

Run as `python -m benchmarks.retrieval_tandem NAME ROOT CONTEST OUTCOME [--quick]`, with the
dataset NAME fetched into ROOT. Nothing is tuned here beyond what the trainer does by itself
on the eval split, and nothing differs between the datasets: `check_defaults` makes sure.
"""

import contextlib
import dataclasses
import os
import sys
import time
from pathlib import Path

import numpy as np

import models  # noqa: F401  (sets the Keras switch, before TFX loads TensorFlow)
from benchmarks.command_line import say
from benchmarks.retrieval_contest import Outcome, ranks
from benchmarks.retrieval_data import Contest, Task
from models.retrieval.evaluation import Scorer
from models.retrieval.settings import RetrievalSettings

INGEST, TRANSFORM, TRAIN = "IngestEvents", "Transform", "Trainer.retrieval"
SPLITS = ("train", "eval", "test")
# TFX puts the ranker's trainer first, and nobody asks for its model here.
OVERRIDES = ("ranking.max_epochs=1",)
# Enough for a look at the machinery, not for a good model.
QUICK_SETTINGS = ("retrieval.max_epochs=3",)


class Enough(Exception):
    """Ends a run once a stage is done, as a kill would."""


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """Where a saved model lies, and the artifacts that it is asked about."""

    interactions: str
    catalog: str
    model_dir: str


def run_through(config, root: Path, last: str) -> dict[str, str]:
    """Runs the pipeline, but only through one stage.

    Args:
        config: a `TandemConfig`.
        root: the root folder; its `data/` holds the dataset.
        last: id of the stage.

    Returns:
        The folder of each output of the stages up to then, by its key.
    """
    from pipeline.layout import Layout
    from pipeline.local_runner import run_pipeline
    from pipeline.run_state import read_latest

    is_done = False

    def on_stage(stage: str) -> None:
        nonlocal is_done
        if is_done:
            raise Enough
        say(f"    tandem: {stage}")
        is_done = stage == last

    with contextlib.suppress(Enough):
        run_pipeline(config, root, on_stage)
    folders: dict[str, str] = {}
    for stage in (INGEST, TRANSFORM, TRAIN):
        latest = read_latest(str(Layout(root.resolve()).metadata), stage)
        if latest is None:
            raise RuntimeError(f"{stage} left nothing; see {root}/run.log")
        folders |= latest.run.outputs
        if stage == last:
            break
    return folders


def check_defaults(name: str, settings: RetrievalSettings) -> None:
    """Raises ValueError unless the settings are those of every other config too."""
    if settings != RetrievalSettings():
        raise ValueError(
            f"the config {name} should leave `retrieval` at its defaults, or Tandem is "
            f"tuned per dataset. Received: {settings}"
        )


def saved_model_scorer(contest: Contest, task: Task, files: ModelFiles) -> Scorer:
    """Scores through the saved model's signatures, from the ingested rows.

    Raises:
        RuntimeError: if the pipeline split the log otherwise than the contest.
    """
    import tensorflow as tf

    from components.build_index import embed_catalogue, run_in_batches
    from components.read_examples import read_serialized, split_files
    from schemas.features import EVENT_ID

    spec = {EVENT_ID: tf.io.FixedLenFeature([], tf.string)}
    rows, event_ids = {}, {}
    for split in SPLITS:
        rows[split] = read_serialized(split_files(files.interactions, split))
        parsed = tf.io.parse_example(tf.constant(rows[split], tf.string), spec)
        event_ids[split] = parsed[EVENT_ID].numpy()
    check_same_split(contest, event_ids)
    place = {event: row for row, event in enumerate(event_ids["test"])}
    wanted = [place[event.encode()] for event in contest.event_ids[task.rows].tolist()]
    vectors = embed_catalogue(files.catalog, files.model_dir)
    row_of = {item: row for row, item in enumerate(vectors.item_ids)}
    items = vectors.embeddings[[row_of[item] for item in contest.item_ids.tolist()]]
    embed = tf.saved_model.load(files.model_dir).signatures["query_examples"]
    queries = run_in_batches(embed, rows["test"][wanted], "embeddings")
    return lambda places: queries[places] @ items.T


def check_same_split(contest: Contest, event_ids: dict[str, np.ndarray]) -> None:
    """Raises RuntimeError unless the ingested splits hold the contest's events."""
    bounds = [0, int(contest.num_fit), int(contest.num_train), len(contest.event_ids)]
    for place, split in enumerate(SPLITS):
        ours = contest.event_ids[bounds[place] : bounds[place + 1]]
        if set(event_ids[split]) != {event.encode() for event in ours.tolist()}:
            raise RuntimeError(
                f"the comparison is void: Tandem's {split} split has "
                f"{len(event_ids[split])} events, the contest's {len(ours)}, or others"
            )


def main() -> None:
    """Trains, ranks the test events and writes the outcome."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    name, root, contest_file, outcome_file = sys.argv[1:5]
    is_quick = "--quick" in sys.argv[5:]
    begin = time.monotonic()
    from tfx.utils import path_utils

    from pipeline.config import load_config

    config = load_config(name, OVERRIDES + (QUICK_SETTINGS if is_quick else ()))
    if not is_quick:
        check_defaults(name, config.retrieval)
    folders = run_through(config, Path(root), TRAIN)
    contest = Contest.load(Path(contest_file))
    files = ModelFiles(
        folders["interactions"],
        folders["catalog"],
        path_utils.serving_model_path(folders["model"]),
    )
    scorer = saved_model_scorer(contest, contest.final, files)
    found = ranks(contest.final, scorer)
    # Nothing was tried here: the trainer looks at the eval split by itself.
    outcome = Outcome(found, {}, 0, None, time.monotonic() - begin)
    outcome.save(Path(outcome_file))


if __name__ == "__main__":
    main()

"""Tandem as a contender: its own pipeline with a shipped config, up to the saved model.

Run as `python -m benchmarks.retrieval_tandem NAME ROOT CONTEST OUTCOME [--quick]`, with the
dataset NAME fetched into ROOT. Nothing is tuned here beyond what the trainer does by itself
on the eval split, and nothing differs between the datasets: `check_defaults` makes sure.
"""

import contextlib
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

STAGE = "Trainer.retrieval"
# Enough for a look at the machinery, not for a good model.
QUICK_SETTINGS = ("retrieval.max_epochs=3",)


class Enough(Exception):
    """Ends a run once the model is there, as a kill would."""


def trained(name: str, root: Path, overrides: tuple[str, ...]) -> dict[str, str]:
    """Runs the pipeline up to the retrieval model; returns what to read of it.

    Args:
        name: of a shipped config.
        root: the root folder; its `data/` holds the dataset.
        overrides: of the config, `a.b=c` each.

    Returns:
        Folders by name: `interactions`, `catalog` and `model`.
    """
    from pipeline.config import load_config
    from pipeline.layout import Layout
    from pipeline.local_runner import run_pipeline
    from pipeline.run_state import read_latest

    config = load_config(name, overrides)
    if not overrides:
        check_defaults(name, config.retrieval)
    is_trained = False

    def on_stage(stage: str) -> None:
        nonlocal is_trained
        if is_trained:
            raise Enough
        say(f"    tandem: {stage}")
        is_trained = stage == STAGE

    with contextlib.suppress(Enough):
        run_pipeline(config, root, on_stage)
    metadata = str(Layout(root.resolve()).metadata)
    folders = {}
    for stage, keys in (
        ("IngestEvents", ("interactions", "catalog")),
        (STAGE, ("model",)),
    ):
        latest = read_latest(metadata, stage)
        if latest is None:
            raise RuntimeError(f"{stage} left nothing; see {root}/run.log")
        folders |= {key: latest.run.outputs[key] for key in keys}
    return folders


def check_defaults(name: str, settings: RetrievalSettings) -> None:
    """Raises ValueError unless the settings are those of every other config too."""
    if settings != RetrievalSettings():
        raise ValueError(
            f"the config {name} should leave `retrieval` at its defaults, or Tandem is "
            f"tuned per dataset. Received: {settings}"
        )


def saved_model_scorer(contest: Contest, task: Task, folders: dict[str, str]) -> Scorer:
    """Scores through the saved model's signatures, from the ingested rows.

    Raises:
        RuntimeError: if the pipeline split the log otherwise than the contest.
    """
    import tensorflow as tf
    from tfx.utils import path_utils

    from components.build_index import embed_catalogue, run_in_batches
    from components.read_examples import read_serialized, split_files
    from schemas.features import EVENT_ID

    by_split = {
        split: read_serialized(split_files(folders["interactions"], split))
        for split in ("train", "eval", "test")
    }
    spec = {EVENT_ID: tf.io.FixedLenFeature([], tf.string)}
    event_ids = {
        split: tf.io.parse_example(tf.constant(rows, tf.string), spec)[EVENT_ID].numpy()
        for split, rows in by_split.items()
    }
    check_same_split(contest, event_ids)
    place = {event: row for row, event in enumerate(event_ids["test"])}
    wanted = [place[event.encode()] for event in contest.event_ids[task.rows]]
    model_dir = path_utils.serving_model_path(folders["model"])
    vectors = embed_catalogue(folders["catalog"], model_dir)
    row_of = {item: row for row, item in enumerate(vectors.item_ids)}
    items = vectors.embeddings[[row_of[item] for item in contest.item_ids.tolist()]]
    embed = tf.saved_model.load(model_dir).signatures["query_examples"]
    queries = run_in_batches(embed, by_split["test"][wanted], "embeddings")
    return lambda places: queries[places] @ items.T


def check_same_split(contest: Contest, event_ids: dict[str, np.ndarray]) -> None:
    """Raises RuntimeError unless the ingested splits hold the contest's events."""
    bounds = [0, int(contest.num_fit), int(contest.num_train), len(contest.event_ids)]
    for place, split in enumerate(("train", "eval", "test")):
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
    folders = trained(name, Path(root), QUICK_SETTINGS if is_quick else ())
    contest = Contest.load(Path(contest_file))
    scorer = saved_model_scorer(contest, contest.final, folders)
    found = ranks(contest.final, scorer)
    # The default settings: the trainer looks at the eval split by itself, for the epochs.
    outcome = Outcome(found, {}, 0, None, time.monotonic() - begin)
    outcome.save(Path(outcome_file))


if __name__ == "__main__":
    main()

"""A log with vectors, weighted categories and seed items on every side that allows them.

`python -m tests.components.feature_kinds_world FOLDER` ingests and analyses it.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.ingestion.settings import DataSettings
from schemas.features import FeatureCatalog

CATALOG = FeatureCatalog.model_validate(
    {
        "user": [{"name": "taste", "kind": "vector", "size": 2}],
        "item": [
            {"name": "mood", "kind": "vector", "size": 3},
            {"name": "cast", "kind": "multi_categorical", "weights": "minutes"},
        ],
        "context": [
            {"name": "seed", "kind": "item_id"},
            {"name": "gaze", "kind": "vector", "size": 2},
            {
                "name": "topics",
                "kind": "multi_categorical",
                "weights": "interest",
                "hash_buckets": 2,
            },
        ],
        "history_length": 4,
        "id_hash_buckets": 3,
    }
)
NUM_ITEMS, NUM_USERS, NUM_EVENTS = 8, 6, 60
FIRST_MS = 1_700_000_000_000
_RNG = np.random.default_rng(5)


def _numbers(size, scale):
    """Returns numbers that float32 holds to the digit."""
    return (scale * _RNG.integers(-40, 40, size) / 8).tolist()


ITEMS = [
    {
        "item_id": f"i{row}",
        "mood": None if row == 3 else _numbers(3, [1, 10, 0.5]),
        "cast": ["ann", "bob", "cyd"][: row % 4],
        "minutes": [30.0, 10.0, 0.0][: row % 4],
    }
    for row in range(NUM_ITEMS)
]
USERS = [
    {"user_id": f"u{row}", "taste": None if row == 2 else _numbers(2, [1, 4])}
    for row in range(NUM_USERS)
]
EVENTS = [
    {
        "event_id": f"e{row:02}",
        "timestamp": FIRST_MS + 1000 * row,
        "user_id": f"u{row % NUM_USERS}",
        "item_id": f"i{(row * row + row // 7) % NUM_ITEMS}",
        "event_type": "click" if row % 3 else "skip",
        "seed": None if row % 4 == 0 else f"i{row % NUM_ITEMS}",
        "gaze": None if row % 5 == 0 else _numbers(2, [1, 1]),
        "topics": [] if row % 6 == 0 else ["war", "love"][: 1 + row % 2],
        "interest": [] if row % 6 == 0 else [1.0, 3.0][: 1 + row % 2],
    }
    for row in range(NUM_EVENTS)
]
EVENTS[7]["interest"] = None  # no weights: both topics alike
EVENTS[9]["interest"] = [0.0, 0.0]


def data_settings(folder: Path) -> DataSettings:
    return DataSettings.model_validate(
        {
            "events": {"path": f"{folder}/events.jsonl"},
            "items": {"path": f"{folder}/items.parquet"},
            "users": {"path": f"{folder}/users.jsonl"},
            "event_types": {
                "click": {"reward": 1.0, "label": 1},
                "skip": {"reward": 0.0, "label": 0, "positive": False},
            },
            "shards": 1,
        }
    )


def write_log(folder: Path) -> None:
    for name, records in (("events", EVENTS), ("users", USERS)):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines)
    pq.write_table(pa.Table.from_pylist(ITEMS), folder / "items.parquet")


def analyse(folder: Path) -> None:
    """Ingests the log, infers its schema and analyses the transform of its train rows."""
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from tensorflow_transform.tf_metadata import dataset_metadata

    from components.feature_statistics import row_source
    from components.infer_schema import infer_from_log
    from models.preprocessing import preprocessing_fn

    runner = f"{FnApiRunner.__module__}.{FnApiRunner.__name__}"
    schema = infer_from_log(
        data_settings(folder),
        CATALOG,
        str(folder),
        ("kinds", "events.jsonl"),
        [f"--runner={runner}"],
    ).schema
    source = row_source([f"{folder}/impressions/Split-train/*"], schema)
    config = {"catalog": CATALOG.model_dump_json()}
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        with tft_beam.Context(temp_dir=str(folder / "tmp")):
            rows = pipeline | "Rows" >> source.BeamSource()
            transform_fn = (rows, source.TensorAdapterConfig()) | (
                tft_beam.AnalyzeDataset(lambda raw: preprocessing_fn(raw, config))
            )
            path = str(folder / "transform")
            _ = transform_fn | tft_beam.WriteTransformFn(path)
            metadata = dataset_metadata.DatasetMetadata(schema)
            _ = metadata | tft_beam.WriteMetadata(f"{path}/metadata", pipeline)


if __name__ == "__main__":
    write_log(Path(sys.argv[1]))
    analyse(Path(sys.argv[1]))
    # Once TensorFlow Transform has analysed anything, its process crashes in the
    # garbage collection at its end.
    os._exit(0)

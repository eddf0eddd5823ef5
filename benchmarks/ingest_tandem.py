"""The job of `benchmarks.ingest` by Tandem's own ingestion."""

import json
import sys
import time
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks import ingest_job as job
from components.ingestion.output import OutputPaths
from components.ingestion.pipeline import ingest
from components.ingestion.settings import DataSettings
from schemas.features import FeatureCatalog


def main(log: Path, out: Path, beam_args: list[str]) -> None:
    """Ingests the files of `log` into `out`; prints the account."""
    startup = time.process_time()
    names = ("interactions", "impressions", "catalog", "profiles", "dead_letters")
    summary = ingest(
        beam.Pipeline(options=PipelineOptions(beam_args)),
        _settings(log),
        _catalog(),
        OutputPaths(*(str(out / name) for name in (*names, "summary"))),
    )
    events = summary.sources["events"]
    account = events.model_dump(
        include={"read", "accepted", "duplicates", "dead_letters"}
    )
    account["rows"] = {
        f"{name}/{split}": count
        for name, splits in summary.rows.items()
        for split, count in splits.items()
    }
    print(json.dumps(account | {"startup_cpu_s": startup}))


def _settings(log: Path) -> DataSettings:
    (first, *_) = sorted(log.glob("events-*"))
    return DataSettings.model_validate(
        {
            "events": {"path": str(log / f"events-*{first.suffix}")},
            "items": {"path": str(log / "items.parquet")},
            "users": {"path": str(log / "users.parquet")},
            "event_types": job.EVENT_TYPES,
            "response_window_minutes": job.WINDOW_MS / 60_000,
            "split": {
                "test_fraction": job.TEST_FRACTION,
                "eval_fraction": job.EVAL_FRACTION,
            },
        }
    )


def _catalog() -> FeatureCatalog:
    sides = {
        side: [{"name": name, "kind": kind} for name, kind in features.items()]
        for side, features in job.FEATURES.items()
    }
    return FeatureCatalog.model_validate(
        {**sides, "history_length": job.HISTORY_LENGTH}
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

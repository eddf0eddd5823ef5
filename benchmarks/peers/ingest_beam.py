"""The job of `benchmarks.ingest` in straightforward Beam: one dict an event."""

import functools
import json
import sys
import time
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsDict, AsSingleton, TaggedOutput
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import (
    BytesList,
    Feature,
    Features,
    FloatList,
    Int64List,
)

from benchmarks import ingest_job as job

_PROFILES = pa.schema(
    [
        ("user_id", pa.string()),
        ("history_item_ids", pa.list_(pa.string())),
        ("seen_item_ids", pa.list_(pa.string())),
    ]
)


def main(log: Path, out: Path) -> None:
    """Ingests the Parquet files of `log` into `out`; prints the account."""
    startup = time.process_time()
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _build(pipeline, log, out)
    result = pipeline.run()
    result.wait_until_finish()
    counts = {
        counter.key.metric.name: counter.committed
        for counter in result.metrics().query()["counters"]
    }
    account = {
        name: counts.get(name, 0)
        for name in ("read", "accepted", "duplicates", "dead_letters")
    }
    account["rows"] = {
        f"{name}/{split}": counts.get(f"{name}/{split}", 0)
        for name in job.EXAMPLES
        for split in job.SPLITS
    }
    print(json.dumps(account | {"startup_cpu_s": startup}))


def _build(pipeline: beam.Pipeline, log: Path, out: Path) -> None:
    checked = (
        pipeline
        | beam.io.ReadFromParquet(str(log / "events-*.parquet"))
        | "Check" >> beam.ParDo(_Check()).with_outputs("dead", main="good")
    )
    _ = (
        checked.dead
        | "DeadToJson" >> beam.Map(json.dumps)
        | beam.io.WriteToText(str(out / "dead_letters" / "part"))
    )
    unique = (
        checked.good
        | "ByEvent" >> beam.Map(lambda event: (event["event_id"], event))
        | "GroupByEvent" >> beam.GroupByKey()
        | "DropDuplicates" >> beam.ParDo(_First())
    )
    cuts = (
        unique
        | "Timestamps" >> beam.Map(lambda event: event["timestamp"])
        | beam.combiners.ToList()
        | "CutSplits" >> beam.Map(_cuts)
    )
    sides = {}
    for side in ("user", "item"):
        sides[side] = (
            pipeline
            | f"Read[{side}]" >> beam.io.ReadFromParquet(str(log / f"{side}s.parquet"))
            | f"Key[{side}]"
            >> beam.Map(lambda row, side=side: (row[f"{side}_id"], row))
        )
    rows = (
        unique
        | "ByUser" >> beam.Map(lambda event: (event["user_id"], event))
        | "GroupByUser" >> beam.GroupByKey()
        | "Rows"
        >> beam.ParDo(
            _Rows(), AsSingleton(cuts), AsDict(sides["user"]), AsDict(sides["item"])
        ).with_outputs(
            "profiles",
            *(f"{name}/{split}" for name in job.EXAMPLES for split in job.SPLITS),
        )
    )
    for name in job.EXAMPLES:
        for split in job.SPLITS:
            _ = rows[f"{name}/{split}"] | f"Write[{name}/{split}]" >> _write(
                out / name / f"Split-{split}" / "data_tfrecord"
            )
    _ = rows.profiles | beam.io.WriteToParquet(
        str(out / "profiles" / "profiles"), _PROFILES
    )
    _ = (
        sides["item"]
        | "ItemExample" >> beam.Map(lambda pair: _side_example("item", *pair))
        | "Write[catalog]" >> _write(out / "catalog" / "items")
    )


def _write(path: Path) -> beam.PTransform:
    return beam.io.WriteToTFRecord(
        str(path), coder=beam.coders.ProtoCoder(Example), file_name_suffix=".gz"
    )


class _Check(beam.DoFn):
    def process(self, event):
        _count("read")
        broken = _broken(event)
        if broken is None:
            yield event
        else:
            _count("dead_letters")
            yield TaggedOutput("dead", {"reason": broken, "raw": event})


def _broken(event: dict) -> str | None:
    """Returns the name of the first field that breaks its rule."""
    for name in ("event_id", "user_id", "item_id"):
        value = event[name]
        if value is None or not value.strip() or len(value.encode()) > job.MAX_ID_BYTES:
            return name
    moment = event["timestamp"]
    if moment is None or not 0 <= moment <= job.MAX_TIMESTAMP:
        return "timestamp"
    if event["event_type"] not in job.EVENT_TYPES:
        return "event_type"
    if event["position"] is not None and event["position"] < 0:
        return "position"
    if event["propensity"] is not None and not 0 < event["propensity"] <= 1:
        return "propensity"
    return None


class _First(beam.DoFn):
    def process(self, element):
        _, events = element
        events = list(events)
        _count("accepted")
        if len(events) > 1:
            _count("duplicates", len(events) - 1)
        yield min(events, key=lambda event: event["timestamp"])


def _cuts(timestamps: list[int]) -> tuple[int, int, int]:
    in_order = sorted(timestamps)
    return (*job.split_cuts(in_order), in_order[-1] + 1)


class _Rows(beam.DoFn):
    """(user, events) -> the user's examples and profile."""

    def process(self, element, cuts, users, items):
        user, events = element
        events = sorted(events, key=lambda e: (e["timestamp"], e["event_id"]))
        eval_from, test_from, closed_at = cuts
        counting = _counting_responses(events)
        clicks: list[tuple[int, str]] = []  # (moment, item), in order
        earlier = 0  # of them, before the current moment
        for event in events:
            moment = event["timestamp"]
            while earlier < len(clicks) and clicks[earlier][0] < moment:
                earlier += 1
            kind = job.EVENT_TYPES[event["event_type"]]
            history = [
                item
                for _, item in clicks[max(0, earlier - job.HISTORY_LENGTH) : earlier]
            ]
            split = job.SPLITS[(moment >= eval_from) + (moment >= test_from)]
            row = (event, history, users.get(user, {}), items.get(event["item_id"], {}))
            if kind["positive"]:
                clicks.append((moment, event["item_id"]))
                yield _output("interactions", split, _example(*row, kind))
            if "answers" not in kind and moment + job.WINDOW_MS < closed_at:
                response = counting.get(event["event_id"])
                if response is not None:
                    kind = job.EVENT_TYPES[response["event_type"]]
                yield _output("impressions", split, _example(*row, kind))
        seen = [item for _, item in clicks][-job.SEEN_LENGTH :]
        profile = {"user_id": user, "seen_item_ids": seen}
        profile["history_item_ids"] = seen[-job.HISTORY_LENGTH :]
        yield TaggedOutput("profiles", profile)


def _output(name: str, split: str, example: Example) -> TaggedOutput:
    _count(f"{name}/{split}")
    return TaggedOutput(f"{name}/{split}", example)


def _counting_responses(events: list[dict]) -> dict[str, dict]:
    """Returns, by impression, the response that counts; events in order."""
    shown: dict[tuple[str, str], list[dict]] = {}
    rank = {name: number for number, name in enumerate(job.EVENT_TYPES)}
    found: dict[str, dict] = {}
    with_request = [event for event in events if event["request_id"]]
    for event in with_request:
        if "answers" not in job.EVENT_TYPES[event["event_type"]]:
            key = (event["request_id"], event["item_id"])
            shown.setdefault(key, []).append(event)
    for event in with_request:
        if "answers" not in job.EVENT_TYPES[event["event_type"]]:
            continue
        key = (event["request_id"], event["item_id"])
        before = [
            impression
            for impression in shown.get(key, [])
            if impression["timestamp"] <= event["timestamp"]
        ]
        if not before or event["timestamp"] - before[-1]["timestamp"] > job.WINDOW_MS:
            continue
        latest = before[-1]["event_id"]
        known = found.get(latest)
        if known is None or rank[event["event_type"]] < rank[known["event_type"]]:
            found[latest] = event
    return found


def _example(
    event: dict, history: list[str], user: dict, item: dict, kind: dict
) -> Example:
    """Returns the row; `kind` is the event type that gives label and reward."""
    features = {
        "event_id": _bytes([event["event_id"]]),
        "timestamp": Feature(int64_list=Int64List(value=[event["timestamp"]])),
        "event_type": _bytes([event["event_type"]]),
        "label": _floats([kind["label"]]),
        "reward": _floats([kind["reward"]]),
        "history_item_ids": _bytes(history),
        **_side_features("user", event["user_id"], user),
        **_side_features("item", event["item_id"], item),
    }
    if event["request_id"]:
        features["request_id"] = _bytes([event["request_id"]])
    if event["position"] is not None:
        features["position"] = Feature(int64_list=Int64List(value=[event["position"]]))
    if event["propensity"] is not None:
        features["propensity"] = _floats([event["propensity"]])
    return Example(features=Features(feature=features))


def _side_example(side: str, name: str, row: dict) -> Example:
    return Example(features=Features(feature=_side_features(side, name, row)))


def _side_features(side: str, name: str, row: dict) -> dict[str, Feature]:
    out = {f"{side}_id": _bytes([name])}
    for feature, kind in job.FEATURES[side].items():
        value = row.get(feature)
        if value is None or value == []:
            continue
        if kind == "numeric":
            out[f"{side}_{feature}"] = _floats([value])
        else:
            values = value if kind == "multi_categorical" else [value]
            out[f"{side}_{feature}"] = _bytes(values)
    return out


def _bytes(values: list[str]) -> Feature:
    return Feature(bytes_list=BytesList(value=[value.encode() for value in values]))


def _floats(values: list[float]) -> Feature:
    return Feature(float_list=FloatList(value=values))


@functools.cache
def _counter(name: str) -> Metrics.DelegatingCounter:
    return Metrics.counter("ingest", name)


def _count(name: str, number: int = 1) -> None:
    _counter(name).inc(number)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""SelectCandidates, BuildIndex and EvaluateRetrieval under TFX's runner.

A world with one right answer: whoever met item n last meets item n + 1 next. The towers
know that; popularity does not.
"""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.candidate_selection import candidates_fingerprint
from components.candidate_selection_settings import CandidateSettings
from components.evaluate_retrieval import RetrievalGateSettings
from components.ingestion.summary import Summary

pytestmark = pytest.mark.component

NUM_ITEMS, NUM_USERS, NUM_STEPS = 60, 12, 10
DENIED = "i8"  # what user 0 meets in the first test step


def number_of(ids):
    return tf.strings.to_number(tf.strings.substr(ids, 1, -1), tf.int32)


class Towers(tf.Module):
    """The vector of item n is the n-th unit vector; that of a query is the next one's."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def query_examples(self, examples):
        spec = {"history_item_ids": tf.io.RaggedFeature(tf.string)}
        history = tf.io.parse_example(examples, spec)["history_item_ids"]
        newest = history[:, -1:].to_tensor("i-1", shape=[None, 1])
        last = number_of(newest[:, 0])
        return {"embeddings": tf.one_hot(last + 1, NUM_ITEMS)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def candidate_examples(self, examples):
        spec = {"item_id": tf.io.FixedLenFeature([], tf.string)}
        items = number_of(tf.io.parse_example(examples, spec)["item_id"])
        return {"embeddings": tf.one_hot(items, NUM_ITEMS)}


def example(**values) -> bytes:
    out = tf.train.Example()
    for key, value in values.items():
        feature = out.features.feature[key]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            texts = [value] if isinstance(value, str) else value
            feature.bytes_list.value.extend(text.encode() for text in texts)
    return out.SerializeToString()


def write_records(path: Path, records: list[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for record in records:
            writer.write(record)


def write_world(folder: Path) -> None:
    """Writes a log, its catalogue and account, towers and a deny list."""
    rows: list[bytes] = []
    for step in range(NUM_STEPS):
        for user in range(NUM_USERS):
            first = user * 4
            met = [f"i{(first + n) % NUM_ITEMS}" for n in range(step + 1)]
            rows.append(
                example(
                    user_id=f"u{user}",
                    item_id=met[-1],
                    timestamp=step * 1000,
                    history_item_ids=met[:-1],
                )
            )
    cuts = {"train": (0, 84), "eval": (84, 96), "test": (96, 120)}
    for split, (begin, end) in cuts.items():
        name = f"Split-{split}/data_tfrecord-00000-of-00001.gz"
        write_records(folder / "interactions" / name, rows[begin:end])
    ids = [f"i{n}" for n in range(NUM_ITEMS)]
    (folder / "catalog").mkdir()
    pq.write_table(pa.table({"item_id": ids}), folder / "catalog" / "items.parquet")
    write_records(
        folder / "catalog" / "items.tfrecord.gz", [example(item_id=i) for i in ids]
    )
    times = {"first": 0, "eval_from": 7000, "test_from": 8000, "last": 9000}
    account = Summary.model_validate(
        {
            "sources": {},
            "events": {},
            "rows": {},
            "users": NUM_USERS,
            "items": NUM_ITEMS,
            "unknown_item_events": 0,
            "unknown_user_events": 0,
            "split_times": times,
        }
    )
    (folder / "summary").mkdir()
    (folder / "summary" / "summary.json").write_text(account.model_dump_json())
    towers = Towers()
    tf.saved_model.save(
        towers,
        str(folder / "model" / "Format-Serving"),
        signatures={
            "query_examples": towers.query_examples,
            "candidate_examples": towers.candidate_examples,
        },
    )
    (folder / "denied.txt").write_text(f"{DENIED}\nnobody\n")


def run(folder: Path, gate: RetrievalGateSettings) -> dict:
    """Returns the last artifact of each type, by the name of the type."""
    from tfx import v1 as tfx
    from tfx.orchestration.metadata import Metadata

    from components import artifacts
    from components.build_index_component import BuildIndex
    from components.candidate_selection_component import SelectCandidates
    from components.evaluate_retrieval_component import EvaluateRetrieval

    def given(name, artifact_type):
        importer = tfx.dsl.Importer(
            source_uri=str(folder / name), artifact_type=artifact_type
        )
        return importer.with_id(name)

    settings = CandidateSettings(deny_list=str(folder / "denied.txt"))
    interactions = given("interactions", tfx.types.standard_artifacts.Examples)
    catalog = given("catalog", artifacts.Catalog)
    summary = given("summary", artifacts.IngestionSummary)
    model = given("model", tfx.types.standard_artifacts.Model)
    selection = SelectCandidates(
        catalog=catalog.outputs["result"],
        summary=summary.outputs["result"],
        settings_json=settings.model_dump_json(),
        candidates_fingerprint=candidates_fingerprint(settings),
    )
    candidates = selection.outputs["candidates"]
    index = BuildIndex(catalog=candidates, model=model.outputs["result"])
    judge = EvaluateRetrieval(
        interactions=interactions.outputs["result"],
        catalog=catalog.outputs["result"],
        candidates=candidates,
        model=model.outputs["result"],
        index=index.outputs["index"],
        settings_json=gate.model_dump_json(),
    )
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(
        str(folder / "metadata.sqlite")
    )
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="steps",
            pipeline_root=str(folder / "root"),
            components=[
                *(interactions, catalog, summary, model),
                *(selection, index, judge),
            ],
            metadata_connection_config=connection,
            enable_cache=True,
        )
    )
    with Metadata(connection) as metadata:
        types = {t.id: t.name for t in metadata.store.get_artifact_types()}
        found = sorted(metadata.store.get_artifacts(), key=lambda a: a.id)
        return {types[artifact.type_id]: artifact for artifact in found}


def test_candidates_are_indexed_judged_and_the_answer_is_in_the_metadata(tmp_path):
    write_world(tmp_path)
    made = run(tmp_path, RetrievalGateSettings(min_coverage=0.3))
    selection = Path(made["tandem.CandidateSelection"].uri) / "selection.json"
    account = json.loads(selection.read_text())
    assert (account["selected"], account["denied"]) == (NUM_ITEMS - 1, 1)
    assert account["unknown_denied_ids"] == ["nobody"]
    index = Path(made["tandem.ItemIndex"].uri)
    ids = json.loads((index / "item_ids.json").read_text())
    assert len(ids) == NUM_ITEMS - 1 and DENIED not in ids
    figures = json.loads(
        (Path(made["tandem.Evaluation"].uri) / "metrics.json").read_text()
    )
    # What is denied cannot be found; everything else is.
    outside = figures["test"]["events_outside_index"]
    assert figures["test"]["events"] == 24 and outside == 1
    assert figures["two_tower"]["recall@10"] == pytest.approx(23 / 24)
    assert figures["two_tower"]["mrr"] == pytest.approx(23 / 24)
    assert figures["popularity"]["recall@10"] < 23 / 24
    report = made["tandem.GateReport"].custom_properties
    assert report["blessed"].int_value == 1
    assert report["reason"].string_value == "retrieval passed: 3 of 3 checks."
    board = made["ModelRun"]
    assert list(Path(board.uri).glob("two_tower/events.out.tfevents.*"))
    # The same log and model, judged by a threshold that nobody reaches.
    made = run(tmp_path, RetrievalGateSettings(max_gini=0.0))
    report = made["tandem.GateReport"].custom_properties
    assert report["blessed"].int_value == 0
    assert report["reason"].string_value.startswith(
        "retrieval refused: gini@10: seen 0."
    )

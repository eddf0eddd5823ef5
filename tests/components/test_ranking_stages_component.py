"""TFX's Evaluator and EvaluateRanking under TFX's runner.

A world with one right answer: a row says the chance of its label, and so does the model.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.ranking_gate import RankingGateSettings
from tests.models.retrieval import evaluation_reference as reference

pytestmark = pytest.mark.component

NUM_ITEMS, NUM_USERS = 10, 30
DAY = 24 * 60 * 60 * 1000
SIZES = {"train": 400, "eval": 100, "test": 600}


class Ranker(tf.Module):
    """Says the chance that a row holds, times a factor; NaN from a user on."""

    def __init__(self, factor: float = 1.0, nan_from: bytes = b"v") -> None:
        super().__init__()
        self._factor = factor
        self._nan_from = int(nan_from[0])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def scores(self, examples):
        spec = {
            "context_chance": tf.io.FixedLenFeature([], tf.float32),
            "user_id": tf.io.FixedLenFeature([], tf.string),
        }
        row = tf.io.parse_example(examples, spec)
        first = tf.io.decode_raw(tf.strings.substr(row["user_id"], 0, 1), tf.uint8)
        is_known = tf.cast(first[:, 0], tf.int32) < self._nan_from
        chance = row["context_chance"] * self._factor
        return {"scores": tf.where(is_known, chance, np.nan)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def layer_attention(self, examples):
        """Looks at the second of three layers alone."""
        return {"weights": tf.one_hot(tf.ones_like(tf.strings.length(examples)), 3)}


def example(rng: np.random.Generator, timestamp: int) -> bytes:
    out = tf.train.Example()
    feature = out.features.feature
    chance = rng.random()
    user = rng.integers(NUM_USERS)
    feature["user_id"].bytes_list.value.append(b"u%d" % user)
    feature["item_id"].bytes_list.value.append(b"i%d" % rng.integers(NUM_ITEMS))
    feature["timestamp"].int64_list.value.append(timestamp)
    label, again = (rng.random(2) < chance).astype(float)
    feature["label"].float_list.value.append(label)
    feature["reward"].float_list.value.append((label + again) / 2)
    feature["context_chance"].float_list.value.append(chance)
    history = [b"i%d" % item for item in rng.integers(NUM_ITEMS, size=user % 8)]
    feature["history_item_ids"].bytes_list.value.extend(history)
    if rng.random() < 0.8:
        feature["position"].int64_list.value.append(rng.integers(6))
    return out.SerializeToString()


def save(ranker: Ranker, folder: Path) -> None:
    signatures = {
        "serving_default": ranker.scores,
        "layer_attention": ranker.layer_attention,
    }
    tf.saved_model.save(ranker, str(folder), signatures=signatures)


def write_world(folder: Path) -> None:
    rng = np.random.default_rng(0)
    time = 0
    for split, size in SIZES.items():
        path = folder / "impressions" / f"Split-{split}"
        path.mkdir(parents=True)
        file = path / "data_tfrecord-00000-of-00001.gz"
        with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
            for _ in range(size):
                time += DAY // 100
                writer.write(example(rng, time))
    ids = [f"i{n}" for n in range(NUM_ITEMS)]
    published = [None] * 9 + ["1970-01-10T00:00:00Z"]
    (folder / "catalog").mkdir()
    table = pa.table({"item_id": ids, "published_at": published})
    pq.write_table(table, folder / "catalog" / "items.parquet")
    save(Ranker(), folder / "model" / "Format-Serving")
    save(Ranker(0.5), folder / "release" / "ranking")


def run(
    folder: Path,
    gate: RankingGateSettings,
    model: str = "model",
    has_last: bool = False,
    target: str = "label",
) -> dict:
    """Returns the last artifact of each type, by the name of the type."""
    from tfx import v1 as tfx
    from tfx.orchestration.metadata import Metadata

    from components import artifacts
    from components.evaluate_ranking_component import EvaluateRanking
    from pipeline.ranking_eval import ranking_eval_config

    def given(name, artifact_type, **properties):
        importer = tfx.dsl.Importer(
            source_uri=str(folder / name),
            artifact_type=artifact_type,
            properties=properties,
        )
        return importer.with_id(name)

    splits = json.dumps(list(SIZES))
    impressions = given(
        "impressions", tfx.types.standard_artifacts.Examples, split_names=splits
    )
    catalog = given("catalog", artifacts.Catalog)
    ranker = given(model, tfx.types.standard_artifacts.Model)
    nodes = [impressions, catalog, ranker]
    last = {}
    if has_last:
        nodes.append(given("release", artifacts.Release))
        last = {"last_release": nodes[-1].outputs["result"]}
    evaluator = tfx.components.Evaluator(
        examples=impressions.outputs["result"],
        example_splits=["test"],
        model=ranker.outputs["result"],
        eval_config=ranking_eval_config(target),
        module_path="components.tfma_slices",
    )
    judge = EvaluateRanking(
        impressions=impressions.outputs["result"],
        catalog=catalog.outputs["result"],
        model=ranker.outputs["result"],
        tfma_evaluation=evaluator.outputs["evaluation"],
        settings_json=gate.model_dump_json(),
        model_name="ours",
        target=target,
        **last,
    )
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(
        str(folder / "metadata.sqlite")
    )
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            pipeline_name="steps",
            pipeline_root=str(folder / "root"),
            components=[*nodes, evaluator, judge],
            metadata_connection_config=connection,
            enable_cache=True,
        )
    )
    with Metadata(connection) as metadata:
        types = {t.id: t.name for t in metadata.store.get_artifact_types()}
        found = sorted(metadata.store.get_artifacts(), key=lambda a: a.id)
        return {types[artifact.type_id]: artifact for artifact in found}


def figures_of(made: dict, name: str = "metrics") -> dict:
    return json.loads(
        (Path(made["tandem.Evaluation"].uri) / f"{name}.json").read_text()
    )


def answer_of(made: dict) -> tuple[int, str]:
    properties = made["tandem.GateReport"].custom_properties
    return properties["blessed"].int_value, properties["reason"].string_value


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranking")
    write_world(folder)
    return folder


@pytest.fixture(scope="module")
def first(world) -> dict:
    return run(world, RankingGateSettings(num_resamples=50))


def test_ranker_is_measured_beside_the_baselines_and_blessed(first):
    assert answer_of(first) == (1, "ranking passed: 7 of 7 checks.")
    figures = figures_of(first)
    assert figures["test"]["rows"] == SIZES["test"]
    assert set(figures) == {
        *("ours", "constant", "popularity", "position", "gain", "test", "tfma")
    }
    # The area below chance against chance, where chances are uniform: 5/6.
    assert figures["ours"]["auc"] == pytest.approx(5 / 6, abs=0.05)
    assert figures["ours"]["gauc"] == pytest.approx(5 / 6, abs=0.06)
    assert figures["ours"]["calibration"] == pytest.approx(1.0, abs=0.1)
    for baseline in ("constant", "popularity", "position"):
        assert figures["gain"][baseline]["auc"][0] > 0.2
    curves = figures_of(first, "curves")
    assert set(curves) == {"ours", "constant", "popularity", "position"}


def test_tfma_sees_the_same_rows_in_the_same_slices(first):
    figures = figures_of(first)
    tfma, ours = figures["tfma"], figures["ours"]
    assert set(ours["slices"]) == {"history_length", "item_age_days", "position"}
    assert set(tfma["slices"]) == {"history_length", "position"}
    for slicing, by_label in tfma["slices"].items():
        assert set(by_label) == set(ours["slices"][slicing])
        for label, row in by_label.items():
            mine = ours["slices"][slicing][label]
            assert row["rows"] == mine["rows"]
            for name in ("auc", "logloss", "calibration"):
                assert row[name] == pytest.approx(mine[name], abs=1e-3)
    for name in ("auc", "logloss", "calibration"):
        assert tfma[name] == pytest.approx(ours[name], abs=1e-3)


def test_items_are_as_old_as_the_catalogue_says_or_the_log(world, first):
    """The last item is published on day nine, the others come with their first row."""
    came = {b"i9": 9 * DAY}
    expected: dict[str, int] = {}
    for split in SIZES:
        (file,) = (world / "impressions" / f"Split-{split}").iterdir()
        for record in tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            item = feature["item_id"].bytes_list.value[0]
            time = feature["timestamp"].int64_list.value[0]
            age = (time - came.setdefault(item, time)) / DAY
            if split == "test":
                label = reference.label_of_age(age)
                expected[label] = expected.get(label, 0) + 1
    ages = figures_of(first)["ours"]["slices"]["item_age_days"]
    assert {label: row["rows"] for label, row in ages.items()} == expected
    assert set(expected) == {"< 1", "1 to 7", "7 to 30"}


def test_tfma_keeps_the_plots(first):
    import tensorflow_model_analysis as tfma

    plots = tfma.load_eval_result(first["ModelEvaluation"].uri).plots
    whole = [set(plot[""][""]) for key, plot in plots if not key]
    assert set().union(*whole) == {
        *("calibrationHistogramBuckets", "confusionMatrixAtThresholds")
    }


def test_board_has_the_plots_and_the_attention_of_a_model_with_layers(first):
    tags = set()
    board = Path(first["ModelRun"].uri)
    for file in board.glob("events.out.tfevents.*"):
        for record in tf.compat.v1.train.summary_iterator(str(file)):
            tags |= {value.tag for value in record.summary.value}
    images = (
        "calibration",
        "roc",
        "layer_attention/users",
        "layer_attention/interests",
    )
    assert tags >= {*images, "figures", "test/rows", "slices/position"}
    assert {path.name for path in board.iterdir() if path.is_dir()} == {
        *("ours", "constant", "popularity", "position")
    }


def test_hpmn_tells_what_the_board_asks_for():
    from components.evaluate_ranking_component import LAYER_ATTENTION
    from models.ranking.hpmn import HPMN
    from tests.models.ranker_contract import rows_of, space

    model = HPMN(space())
    tell = model.explanations()[LAYER_ATTENTION]
    ((_, weights),) = tell(rows_of(np.arange(6), np.arange(6))).items()
    assert weights.shape == (6, len(model.settings.periods))
    np.testing.assert_allclose(tf.reduce_sum(weights, axis=1), 1.0, rtol=1e-5)


def test_threshold_that_the_model_misses_stops_the_line(world, first):
    gate = RankingGateSettings(num_resamples=50, min_auc=0.99)
    blessed, reason = answer_of(run(world, gate))
    assert blessed == 0
    assert reason.startswith("ranking refused: auc: seen 0.8")


def test_model_is_compared_with_the_last_release_on_the_same_rows(world, first):
    gate = RankingGateSettings(num_resamples=50, max_likely_auc_drop=0.0)
    made = run(world, gate, has_last=True)
    figures = figures_of(made)
    # Half of each chance is in the same order, and half of what happens.
    assert figures["last_release"]["auc"] == pytest.approx(figures["ours"]["auc"])
    assert figures["last_release"]["calibration"] == pytest.approx(
        figures["ours"]["calibration"] / 2
    )
    assert figures["gain"]["last_release"]["auc"] == pytest.approx([0, 0], abs=1e-12)
    assert figures["gain"]["last_release"]["logloss"][1] < 0
    assert answer_of(made) == (1, "ranking passed: 10 of 10 checks.")


def test_model_that_diverged_is_refused_not_raised(world, first):
    save(Ranker(nan_from=b"u"), world / "broken" / "Format-Serving")
    made = run(world, RankingGateSettings(num_resamples=50), "broken")
    blessed, reason = answer_of(made)
    assert blessed == 0
    assert reason.startswith(
        "ranking refused: rows without a prediction: seen 600, expected at most 0."
    )
    assert "auc" not in figures_of(made)["ours"]


def test_ranker_of_rewards_is_judged_by_rewards_that_may_be_parts(world, first):
    """TFMA and we agree on rows that are half a positive."""
    made = run(world, RankingGateSettings(num_resamples=50), target="reward")
    assert answer_of(made) == (1, "ranking passed: 7 of 7 checks.")
    figures, of_labels = figures_of(made), figures_of(first)
    assert figures["ours"]["auc"] == pytest.approx(figures["tfma"]["auc"], abs=1e-3)
    assert figures["ours"]["auc"] != pytest.approx(of_labels["ours"]["auc"], abs=1e-3)
    assert figures["ours"]["calibration"] == pytest.approx(1.0, abs=0.1)

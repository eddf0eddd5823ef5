"""`tandem skew`: what was served is what training would see, or it is named what differs."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from click.testing import CliRunner
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from pipeline.cli import cli
from pipeline.config import load_config
from pipeline.layout import Layout
from pipeline.skew import SkewError, check_skew
from schemas.decisions import Decision, ShownItem
from schemas.features import Feature, FeatureCatalog, FeatureKind
from serving import tensor_codec
from serving.client import feature_array, recommend_arguments
from serving.event_store import EventStore
from serving.model_config import Sampling
from serving.profiles import past_of
from serving.release_layout import ITEMS, MANIFEST, model_dir, release_dir
from serving.release_tables import ReleaseTables
from serving.request_log import RequestLog
from serving.sqlite_profiles import SqliteProfiles
from tests.serving.test_profiles import write_release
from tests.serving.toy_release import write_model

AS_OF, RELEASE, LENGTH = 5000, 3, 4
ITEM_IDS = [f"i{number}" for number in range(10)]
CATALOG = FeatureCatalog(
    user=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="tastes", kind=FeatureKind.MULTI_CATEGORICAL),
    ),
    item=(Feature(name="price", kind=FeatureKind.NUMERIC),),
    context=(Feature(name="hour", kind=FeatureKind.CATEGORICAL),),
    history_length=LENGTH,
)
ANA = {
    "user_id": "ana",
    "age": 31.5,
    "tastes": ["jazz", "folk"],
    "history_item_ids": ["i1", "i2"],
    "seen_item_ids": ["i0", "i1", "i2"],
}


def tensor_info(dtype: tf.DType, rank: int) -> meta_graph_pb2.TensorInfo:
    shape = tf.TensorShape([None] * rank).as_proto()
    return meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum, tensor_shape=shape)


INPUTS = {
    "user_age": tensor_info(tf.float32, 1),
    "user_tastes": tensor_info(tf.string, 2),
    "context_hour": tensor_info(tf.string, 1),
}


class ToyRanking(tf.Module):
    """A score that any change of a history's order, of an age or an hour moves."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def rank(self, examples):
        spec = {
            "history_item_ids": tf.io.RaggedFeature(tf.string),
            "user_tastes": tf.io.RaggedFeature(tf.string),
            "user_age": tf.io.FixedLenFeature([], tf.float32, 0.0),
            "context_hour": tf.io.FixedLenFeature([], tf.string, "0"),
            "item_price": tf.io.FixedLenFeature([], tf.float32, 0.0),
        }
        row = tf.io.parse_example(examples, spec)
        history = row["history_item_ids"].to_tensor("i0", shape=[None, LENGTH])
        numbers = tf.strings.to_number(tf.strings.substr(history, 1, 2))
        ordered = tf.reduce_sum(numbers * [1.0, 10.0, 100.0, 1000.0], 1) * 1e-4
        hour = tf.strings.to_number(row["context_hour"])
        tastes = tf.cast(row["user_tastes"].row_lengths(), tf.float32)
        logits = ordered + row["user_age"] / 100 + tastes + hour / 24
        return {"scores": tf.sigmoid(logits - row["item_price"])}


def score_of(history, age, tastes, hour, price) -> float:
    """The same in Python."""
    numbers = [float(item[1:]) for item in history]
    ordered = 1e-4 * sum(x * 10.0**place for place, x in enumerate(numbers))
    logit = ordered + age / 100 + len(tastes) + float(hour) / 24 - price
    return 1 / (1 + np.exp(-logit))


@pytest.fixture(scope="module")
def ranking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranking")
    model = ToyRanking()
    model.functions = {"serving_default": model.rank}
    write_model(folder / "ranking", model)
    return folder / "ranking"


@dataclasses.dataclass
class World:
    """A root from which slates are served, by hand."""

    layout: Layout
    events: EventStore
    profiles: SqliteProfiles
    log: RequestLog
    seed: int = 0

    def click(self, item: str, at: int, name: str | None = None, user="ana") -> None:
        self.events.append(
            [
                {
                    "event_id": name or f"{user}-{item}-{at}",
                    "timestamp": at,
                    "user_id": user,
                    "item_id": item,
                    "event_type": "click",
                }
            ]
        )

    def serve(self, at: int, user="ana", past=past_of, lost=(), off=0.0) -> None:
        """Shows i8 and i9 to a user.

        Args:
            at: ms.
            user: to whom.
            past: what makes the history.
            lost: features that do not reach the model.
            off: what is added to the scores.
        """
        self.seed += 1
        profile, snapshot = self.profiles.read(user)
        told = past(profile, snapshot, self.events, ["click"], at, LENGTH)
        features = {**profile.features, "context_hour": "12"}
        features = {key: v for key, v in features.items() if key not in lost}
        inputs = recommend_arguments(user, told.history, told.seen, 2, self.seed)
        for key, info in INPUTS.items():
            inputs[key] = feature_array(key, features.get(key), info)
        scores = [
            off
            + score_of(
                told.history,
                features.get("user_age", 0.0),
                features.get("user_tastes", ()),
                features.get("context_hour", "0"),
                price,
            )
            for price in (0.8, 0.9)
        ]
        decision = Decision(
            request_id=f"r{self.seed}",
            timestamp=at,
            user_id=user,
            slate=tuple(
                ShownItem(item_id=item, score=score, propensity=1.0)
                for item, score in zip(("i8", "i9"), scores, strict=True)
            ),
            policy="greedy",
            release=RELEASE,
            seed=self.seed,
            request_hash="",
            context={"hour": "12"},
        )
        self.events.append(decision.events())
        self._note(inputs)

    def _note(self, inputs) -> None:
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = "recommend"
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tensor_codec.encode(array))
        spec = model_pb2.ModelSpec(name="recommender", signature_name="recommend")
        self.log.offer(spec, request, predict_pb2.PredictResponse())

    def check(self, most: int = 100):
        self.log.close()
        return check_skew(self.layout.root, most)


@pytest.fixture
def world(ranking, tmp_path):
    layout = Layout(tmp_path / "root")
    release = release_dir(layout.serving, RELEASE)
    tables = write_release(release, RELEASE, [ANA], as_of=AS_OF)
    (release / MANIFEST).write_text("{}")
    prices = [number / 10 for number in range(10)]
    pq.write_table(pa.table({"item_id": ITEM_IDS, "price": prices}), release / ITEMS)
    place = model_dir(layout.serving, "ranking", RELEASE)
    place.parent.mkdir(parents=True)
    place.symlink_to(ranking)
    layout.config.parent.mkdir(parents=True)
    config = load_config("movielens-100k", ()).model_dump(mode="json")
    config["features"] = CATALOG.model_dump(mode="json")
    rating = config["data"]["event_types"]["rating"]
    config["data"]["event_types"] = {"click": rating | {"positive": True}}
    layout.config.write_text(json.dumps(config))
    events = EventStore(layout.event_store)
    profiles = SqliteProfiles(layout.events / "profiles.db")
    profiles.load(ReleaseTables(RELEASE, tables.directory))
    sampling = Sampling(1.0, str(layout.request_log / "recommender"))
    yield World(layout, events, profiles, RequestLog(lambda model: sampling))
    events.close()
    profiles.close()


def test_what_was_served_as_it_is_trained_agrees(world):
    world.serve(AS_OF)
    world.click("i3", AS_OF + 10)
    world.serve(AS_OF + 10)  # the moment of the click: not yet
    world.serve(AS_OF + 11)
    for number, item in enumerate(("i4", "i5", "i6")):
        world.click(item, AS_OF + 20, name=f"z{9 - number}")  # one moment, other order
    world.serve(AS_OF + 30)
    world.serve(AS_OF + 30, user="nobody")
    report, num_gone = world.check()
    assert report.differences == []
    assert report.agrees
    assert (report.requests, report.with_inputs, report.items) == (5, 5, 10)
    assert report.largest_score_difference < 1e-6
    assert (report.late, report.unknown_items, num_gone) == (0, 0, 0)


def with_the_present(profile, snapshot, events, types, at, length):
    return past_of(profile, snapshot, events, types, at + 1, length)


def without_the_latest(profile, snapshot, events, types, at, length):
    past = past_of(profile, snapshot, events, types, at, length)
    return dataclasses.replace(past, history=past.history[:-1])


def newest_first(profile, snapshot, events, types, at, length):
    past = past_of(profile, snapshot, events, types, at, length)
    return dataclasses.replace(past, history=past.history[::-1])


@pytest.mark.parametrize("wrong", [with_the_present, without_the_latest, newest_first])
def test_a_history_that_is_off_is_named(world, wrong):
    world.click("i3", AS_OF + 10)
    world.serve(AS_OF + 10)
    world.serve(AS_OF + 10, past=wrong)
    report, _ = world.check()
    assert report.counts == {"history_item_ids": 1, "score": 1}
    history, score = report.differences
    assert (history.request_id, history.user_id) == ("r2", "ana")
    assert history.offline == "['i1', 'i2']"
    profile, snapshot = world.profiles.read("ana")
    asked = wrong(profile, snapshot, world.events, ["click"], AS_OF + 10, LENGTH)
    assert history.served == str(asked.history)
    assert score.served.endswith("of i8")


@pytest.mark.parametrize(
    ("feature", "offline"),
    [
        ("user_age", "31.5"),
        ("user_tastes", "['jazz', 'folk']"),
        ("context_hour", "12"),
    ],
)
def test_a_feature_that_was_lost_is_named(world, feature, offline):
    world.serve(AS_OF, lost=[feature])
    world.serve(AS_OF)
    report, _ = world.check()
    assert report.counts == {feature: 1, "score": 1}
    assert report.differences[0].served == "None"
    assert report.differences[0].offline == offline


def test_a_score_of_another_model_is_named_though_all_inputs_agree(world):
    world.serve(AS_OF, off=2e-5)
    world.serve(AS_OF, off=5e-6)
    report, _ = world.check()
    assert report.counts == {"score": 1}
    assert report.largest_score_difference == pytest.approx(2e-5, rel=0.05)


def test_what_came_late_is_counted_and_no_skew(world):
    world.serve(AS_OF + 20)
    world.click("i3", AS_OF + 10)
    report, _ = world.check()
    assert report.agrees
    assert report.late == 1


def test_without_a_log_of_requests_the_scores_tell(world):
    world.serve(AS_OF)
    world.serve(AS_OF, lost=["user_age"])
    world.log.close()
    for file in world.layout.request_log.iterdir():
        file.unlink()
    report, _ = check_skew(world.layout.root, 100)
    assert report.with_inputs == 0
    assert report.counts == {"score": 1}


def test_only_the_latest_are_checked(world):
    for moment in range(5):
        world.serve(AS_OF + moment, off=0.1 if moment < 3 else 0.0)
    report, _ = world.check(most=2)
    assert (report.requests, report.agrees) == (2, True)


def test_impressions_of_a_client_are_no_decisions(world):
    world.serve(AS_OF)
    own = {"event_id": "own", "timestamp": AS_OF, "user_id": "ana", "item_id": "i1"}
    world.events.append([{**own, "event_type": "impression"}])
    assert world.check()[0].requests == 1


def test_items_that_the_release_does_not_have_are_counted(world):
    world.serve(AS_OF)
    table = release_dir(world.layout.serving, RELEASE) / ITEMS
    pq.write_table(pq.read_table(table).slice(0, 9), table)
    report, _ = world.check()
    assert (report.unknown_items, report.agrees) == (1, False)


def test_releases_that_are_gone_are_left_out(world):
    world.serve(AS_OF)
    (release_dir(world.layout.serving, RELEASE) / MANIFEST).unlink()
    with pytest.raises(SkewError, match="All 1 slates are of releases that are gone"):
        world.check()


def test_half_a_record_at_a_log_s_end_is_passed_over(world):
    world.serve(AS_OF)
    world.serve(AS_OF + 1)
    world.log.close()
    (file,) = world.layout.request_log.iterdir()
    file.write_bytes(file.read_bytes()[:-10])
    report, _ = check_skew(world.layout.root, 100)
    assert (report.requests, report.with_inputs, report.agrees) == (2, 1, True)


def run(*arguments) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["skew", *map(str, arguments)])
    return done.exit_code, done.output


def test_command(world, tmp_path):
    world.serve(AS_OF)
    world.log.close()
    code, shown = run("--root", world.layout.root)
    assert (code, "1 slates, 2 scores" in shown) == (0, True)
    world.serve(AS_OF, off=0.1)
    code, shown = run("--root", world.layout.root, "--json")
    assert code == 1
    assert "score of ana in r2" in shown
    told = json.loads(shown.splitlines()[-1])
    assert (told["agrees"], told["counts"]) == (False, {"score": 1})
    code, shown = run("--root", tmp_path / "empty")
    assert (code, "tandem serve" in shown) == (1, True)

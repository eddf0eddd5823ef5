"""A toy release: four SavedModels over 20 items that keep the serving contract.

Its policy is simple enough to be worked out by hand: item i has score 1 - i / 20, the
history and excluded items are left out, the rest comes best first, propensity 1.
Each `Flaw` breaks one promise, for gates to find.
"""

import enum
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.recorded import RecordedCase, write_expected
from serving.warmup import write_warmup

NUM_ITEMS = 20
ITEM_IDS = [f"i{position:02d}" for position in range(NUM_ITEMS)]


class Flaw(enum.Enum):
    """The promise a toy recommender breaks."""

    NONE = "keeps all promises"
    REPEATS = "returns an item twice"
    EXCLUDED = "returns excluded items"
    UNKNOWN = "returns an item that is not in the catalogue"
    SHORT = "returns fewer items than asked for and available"
    LOOSE_TAIL = "the tail beyond the catalogue has scores"
    UNSEEDED = "the same seed gives another answer"
    WRONG_ANSWER = "answers differ from the recorded ones"
    UNBOUNDED = "returns as many columns as it is asked for"
    NOT_FINITE = "a large number makes the scores NaN"
    SLOW = "takes a tenth of a second or so"


class ToyRecommender(tf.Module):
    """Both signatures of `recommender`, with one user and one context feature."""

    def __init__(self, flaw: Flaw):
        super().__init__()
        self._flaw = flaw
        self._item_ids = tf.constant(ITEM_IDS)
        self._scores = tf.Variable(
            1.0 - np.arange(NUM_ITEMS, dtype=np.float32) / NUM_ITEMS
        )
        spec = {
            "user_id": tf.TensorSpec([None], tf.string, "user_id"),
            "history_item_ids": tf.TensorSpec(
                [None, None], tf.string, "history_item_ids"
            ),
            "user_age": tf.TensorSpec([None], tf.float32, "user_age"),
            "context_tags": tf.TensorSpec([None, None], tf.string, "context_tags"),
        }
        more = {
            "exclude_item_ids": tf.TensorSpec(
                [None, None], tf.string, "exclude_item_ids"
            ),
            "k": tf.TensorSpec([], tf.int32, "k"),
            "seed": tf.TensorSpec([None], tf.int64, "seed"),
        }
        self.functions = {
            "serving_default": tf.function(self._default).get_concrete_function(**spec),
            "recommend": tf.function(self._recommend).get_concrete_function(
                **spec, **more
            ),
        }

    def _default(self, user_id, history_item_ids, user_age, context_tags):
        batch = tf.shape(user_id)[0]
        return self._recommend(
            user_id,
            history_item_ids,
            user_age,
            context_tags,
            tf.fill([batch, 1], ""),
            tf.constant(5),
            tf.zeros([batch], tf.int64),
        )

    def _recommend(
        self,
        user_id,
        history_item_ids,
        user_age,
        context_tags,
        exclude_item_ids,
        k,
        seed,
    ):
        left_out = tf.concat([history_item_ids, exclude_item_ids], 1)
        if self._flaw is Flaw.EXCLUDED:
            left_out = history_item_ids
        hit = tf.reduce_any(left_out[:, :, None] == self._item_ids, 1)  # [B, items]
        scores = tf.where(hit, -1.0, self._scores)
        if self._flaw is Flaw.UNSEEDED:
            scores += tf.where(hit, 0.0, tf.random.uniform(tf.shape(scores)))
        order = tf.argsort(scores, 1, "DESCENDING", stable=True)
        best = tf.gather(scores, order, batch_dims=1)
        ids = tf.where(best >= 0.0, tf.gather(self._item_ids, order), "")
        best = tf.maximum(best, 0.0)
        if self._flaw is Flaw.NOT_FINITE:
            far = user_age * user_age  # infinite from 2e19 on
            best += (far - far)[:, tf.newaxis]
        if self._flaw is not Flaw.UNBOUNDED:
            k = tf.clip_by_value(k, 0, NUM_ITEMS + 1000)
        k = tf.minimum(k, 100_000)  # a test needs no more to see it
        num_short = tf.maximum(k - NUM_ITEMS, 0)
        ids = tf.pad(ids, [[0, 0], [0, num_short]], constant_values="")[:, :k]
        best = tf.pad(best, [[0, 0], [0, num_short]])[:, :k]
        return self._flawed(ids, best)

    def _flawed(self, ids, scores):
        propensities = tf.cast(ids != "", tf.float32)
        if self._flaw is Flaw.REPEATS:
            ids = tf.concat([ids[:, :1], ids[:, :1], ids[:, 2:]], 1)
        elif self._flaw is Flaw.UNKNOWN:
            ids = tf.where(ids == "i03", "no-such-item", ids)
        elif self._flaw is Flaw.SHORT:
            ids = tf.concat([ids[:, :-1], tf.fill([tf.shape(ids)[0], 1], "")], 1)
            propensities = tf.cast(ids != "", tf.float32)
            scores = scores * propensities
        elif self._flaw is Flaw.LOOSE_TAIL:
            scores = tf.maximum(scores, 0.01)
        elif self._flaw is Flaw.SLOW:
            scores += 0.0 * _busy(scores)
        elif self._flaw is Flaw.WRONG_ANSWER:
            scores = 0.99 * scores
        return {"item_ids": ids, "scores": scores, "propensities": propensities}


def _busy(scores: tf.Tensor) -> tf.Tensor:
    """Returns a finite number after some 10 billion multiplications."""
    matrix = tf.fill([500, 500], tf.reduce_max(scores) / 500.0)
    return tf.foldl(lambda x, _: tf.tanh(x @ matrix), tf.range(80), matrix)[0, 0]


class ToyRetrieval(tf.Module):
    """The first ten items for everybody."""

    def __init__(self):
        super().__init__()
        self.functions = {
            "serving_default": tf.function(self._retrieve).get_concrete_function(
                user_id=tf.TensorSpec([None], tf.string, "user_id"),
                history_item_ids=tf.TensorSpec(
                    [None, None], tf.string, "history_item_ids"
                ),
            )
        }

    def _retrieve(self, user_id, history_item_ids):
        batch = tf.shape(user_id)[0]
        scores = 1.0 - tf.range(10, dtype=tf.float32) / NUM_ITEMS
        return {
            "item_ids": tf.tile(tf.constant([ITEM_IDS[:10]]), [batch, 1]),
            "scores": tf.tile(scores[None, :], [batch, 1]),
        }


class ToyRanking(tf.Module):
    """Scores a raw example by the user's age."""

    def __init__(self):
        super().__init__()
        self.functions = {
            "serving_default": tf.function(self._rank).get_concrete_function(
                examples=tf.TensorSpec([None], tf.string, "examples")
            )
        }

    def _rank(self, examples):
        age = tf.io.FixedLenFeature([], tf.float32, 0.0)
        parsed = tf.io.parse_example(examples, {"user_age": age})
        return {"scores": parsed["user_age"] / 100.0}


def expected_answer(
    history: list[str], excluded: list[str], k: int
) -> dict[str, np.ndarray]:
    """Returns what a flawless toy recommender answers for one user."""
    kept = [item for item in ITEM_IDS if item not in {*history, *excluded}][:k]
    scores = [1.0 - ITEM_IDS.index(item) / NUM_ITEMS for item in kept]
    tail = k - len(kept)
    return {
        "item_ids": np.array([kept + [""] * tail], object),
        "scores": np.array([scores + [0.0] * tail], np.float32),
        "propensities": np.array([[1.0] * len(kept) + [0.0] * tail], np.float32),
    }


def query(user_id: str, history: list[str], age: float = 30.0) -> dict[str, np.ndarray]:
    """Returns the inputs of `serving_default` for one user."""
    return {
        "user_id": np.array([user_id], object),
        "history_item_ids": np.array([history or [""]], object),
        "user_age": np.array([age], np.float32),
        "context_tags": np.array([["morning", "mobile"]], object),
    }


def recommend_inputs(
    user_id: str, history: list[str], excluded: list[str], k: int, seed: int = 1
) -> dict[str, np.ndarray]:
    """Returns the inputs of `recommend` for one user."""
    return query(user_id, history) | {
        "exclude_item_ids": np.array([excluded or [""]], object),
        "k": np.array(k, np.int32),
        "seed": np.array([seed], np.int64),
    }


def predict_request(
    model: str, signature: str, inputs: dict[str, np.ndarray]
) -> predict_pb2.PredictRequest:
    """Returns the request as TensorFlow's own code writes it."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, array in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
    return request


def recorded_cases() -> list[RecordedCase]:
    """Returns one case per model and signature, and then some."""
    cases = []
    for model in ("recommender", "recommender_exact"):
        for user, history, excluded, k in (
            ("ana", ["i00", "i02"], ["i05"], 4),
            ("ben", [], [], 10),
        ):
            cases.append(
                RecordedCase(
                    model,
                    "recommend",
                    recommend_inputs(user, history, excluded, k),
                    expected_answer(history, excluded, k),
                )
            )
        default = expected_answer(["i01"], [], 5)
        cases.append(
            RecordedCase(model, "serving_default", query("ana", ["i01"]), default)
        )
    first_ten = {
        "item_ids": np.array([ITEM_IDS[:10]], object),
        "scores": np.array([[1 - i / 20 for i in range(10)]], np.float32),
    }
    user = {key: query("ana", ["i01"])[key] for key in ("user_id", "history_item_ids")}
    cases.append(RecordedCase("retrieval", "serving_default", user, first_ten))
    example = tf.train.Example()
    example.features.feature["user_age"].float_list.value.append(50.0)
    cases.append(
        RecordedCase(
            "ranking",
            "serving_default",
            {"examples": np.array([example.SerializeToString()], object)},
            {"scores": np.array([0.5], np.float32)},
        )
    )
    return cases


def write_model(directory: Path, module: tf.Module) -> None:
    """Saves a toy as the exporter saves a model."""
    tf.saved_model.save(module, str(directory), signatures=module.functions)


def write_bundle(directory: Path) -> Path:
    """Writes a flawless bundle: four models, warm-up requests, expected.json."""
    write_model(directory / "recommender", ToyRecommender(Flaw.NONE))
    write_model(directory / "retrieval", ToyRetrieval())
    write_model(directory / "ranking", ToyRanking())
    shutil.copytree(directory / "recommender", directory / "recommender_exact")
    cases = recorded_cases()
    write_expected(directory / "expected.json", cases)
    for model in ("recommender", "recommender_exact", "retrieval", "ranking"):
        write_warmup(
            directory / model,
            [
                predict_request(case.model, case.signature, case.inputs)
                for case in cases
                if case.model == model
            ],
        )
    return directory


def flawed_bundle(good: Path, directory: Path, flaw: Flaw) -> Path:
    """Copies a bundle and breaks one promise of its `recommender`."""
    shutil.copytree(good, directory, ignore=shutil.ignore_patterns("recommender"))
    write_model(directory / "recommender", ToyRecommender(flaw))
    return directory


def place(bundle: Path, root: Path, version: int, *models: str) -> Path:
    """Puts models of a bundle into a serving root, all at once, as a push does."""
    for model in models or ("recommender", "recommender_exact", "retrieval", "ranking"):
        staged = root / f".staged-{model}"
        shutil.copytree(bundle / model, staged)
        (root / model).mkdir(exist_ok=True)
        staged.rename(root / model / str(version))
    return root


def write_tables(directory: Path) -> tuple[Path, Path]:
    """Writes a catalog and a profiles folder."""
    catalog, profiles = directory / "catalog", directory / "profiles"
    catalog.mkdir(parents=True)
    profiles.mkdir()
    titles = [f"Item {item}" for item in ITEM_IDS]
    items = pa.table({"item_id": ITEM_IDS, "title": titles})
    pq.write_table(items, catalog / "items.parquet")
    users = pa.table({"user_id": ["ana"], "history_item_ids": [["i00", "i02"]]})
    pq.write_table(users, profiles / "profiles-00000-of-00001.parquet")
    return catalog, profiles

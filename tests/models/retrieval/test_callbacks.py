import numpy as np
import pytest
import tensorflow as tf

from models.losses.frequency import StreamingFrequencyEstimator
from models.retrieval import trainer
from models.retrieval.callbacks import EvalRecall, FrequencyBoard
from models.retrieval.settings import RetrievalSettings
from models.retrieval.training_items import distinct_items
from models.retrieval.two_tower import TwoTower
from models.training_input import transformed_batches
from tests import reference
from tests.models import training_world

# So many items that half of them are more than the 100 that count as found. Those from
# 401 on are not in the train split.
RNG = np.random.default_rng(8)
TRAIN_ITEMS = RNG.permutation(np.arange(2, 401)).tolist() * 2
TRAIN = [(1, item, []) for item in TRAIN_ITEMS]
EVAL = [
    (1, int(RNG.integers(2, 401)), RNG.integers(2, 450, size=row % 5 * 40).tolist())
    for row in range(60)
]
EVAL += [(1, 9, [9, 8, 7]), (1, 8, [8, 8])]  # met before
EVAL += [(1, 410, []), (1, 401, [2]), (1, 1, [])]  # never seen in training


class FixedTowers:
    """Towers whose vectors depend on the item and on the newest of the history."""

    def __init__(self, item_vectors, query_vectors):
        self.item_vectors = tf.constant(item_vectors, tf.float32)
        self.query_vectors = tf.constant(query_vectors, tf.float32)
        self.stop_training = False

    def embed_candidates(self, items):
        return tf.gather(self.item_vectors, items["item_id_xf"])

    def embed_query(self, features):
        newest = tf.reduce_max(features["history_item_ids_xf"], axis=1)
        return tf.gather(self.query_vectors, newest)


def _towers(seed=0, levels=None):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=[2, 450, 3])
    if levels:  # few different scores: many ties
        vectors = np.sign(vectors) * (np.abs(vectors) > levels)
    return FixedTowers(*vectors)


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    path = tmp_path_factory.mktemp("splits")
    train = training_world.write(path / "train.gz", TRAIN)
    return [train], [training_world.write(path / "eval.gz", EVAL)]


@pytest.fixture
def make(splits, tmp_path):
    def callback(patience=2):
        settings = RetrievalSettings(patience=patience)
        logs = tmp_path / "logs"
        transform, (train_files, eval_files) = training_world.Transform(), splits
        items = trainer.items_of(settings, transform, train_files)
        return EvalRecall(settings, transform, items, eval_files, logs)

    return callback


def _recall(callback, model):
    callback.set_model(model)
    logs = {}
    callback.on_epoch_end(0, logs)
    return logs["eval_recall"]


def _slow_recall(model, seen_out=True, ties=True):
    catalogue = sorted(set(TRAIN_ITEMS))
    hits = []
    for _, item, history in EVAL:
        query = model.query_vectors.numpy()[max(history, default=0)]
        scores = [float(query @ model.item_vectors.numpy()[row]) for row in catalogue]
        positive = catalogue.index(item) if item in catalogue else -1
        if not ties:
            scores = [
                score - 1e-6 * (row != positive) for row, score in enumerate(scores)
            ]
        seen = {catalogue.index(met) for met in history if met in catalogue}
        rank = reference.rank_of_positive(scores, positive, seen if seen_out else set())
        hits.append(positive >= 0 and rank < 100)
    return np.mean(hits)


def check_recall(recall_of, levels):
    for seed in range(3):
        model = _towers(seed, levels)
        assert recall_of(model) == pytest.approx(_slow_recall(model))


@pytest.mark.parametrize("levels", [None, 1.0], ids=["no ties", "many ties"])
def test_eval_recall_equals_the_slow_reference(make, levels):
    check_recall(lambda model: _recall(make(), model), levels)


@pytest.mark.parametrize(
    ("wrong", "levels"),
    [({"seen_out": False}, None), ({"ties": False}, 1.0)],
    ids=["seen stay in", "lucky ties"],
)
def test_recall_checker_rejects(wrong, levels):
    with pytest.raises(AssertionError):
        check_recall(lambda model: _slow_recall(model, **wrong), levels)


def test_eval_recall_of_a_collapsed_model_is_not_perfect(make):
    """All vectors alike: each of 399 items ranks in the middle, which is no hit.

    With ties in the item's favour it was the best model one can have.
    """
    flat = FixedTowers(np.ones([450, 3]), np.ones([450, 3]))
    assert _recall(make(), flat) == 0.0


@pytest.mark.parametrize("broken", ["items", "queries"])
def test_eval_recall_of_a_diverged_model_is_not_perfect(make, broken):
    """No score is above NaN, so a diverged model hit always and was kept."""
    model = _towers()
    good = model.item_vectors.numpy()
    good[10:] = np.nan
    if broken == "items":
        model.item_vectors = tf.constant(good)
    else:
        model.query_vectors = tf.fill([450, 3], np.nan)
    assert _recall(make(), model) < 0.1
    if broken == "items":
        assert _recall(make(), model) == pytest.approx(_slow_recall(model))


def _after(callback, recalls):
    """Runs epochs of the given recalls until the callback stops; returns their number."""
    model = _towers()
    callback.set_model(model)
    for epoch, recall in enumerate(recalls):
        callback._recall = lambda recall=recall: recall
        callback.on_epoch_end(epoch, {})
        if model.stop_training:
            return epoch + 1
    return len(recalls)


@pytest.mark.parametrize(
    ("patience", "recalls", "best_epoch", "num_epochs"),
    [
        (2, [0.1, 0.2, 0.2, 0.1, 0.9], 1, 4),
        (2, [0.1, 0.05, 0.2, 0.1, 0.3], 4, 5),
        (1, [0.1, 0.2, 0.1, 0.9], 1, 3),
        (0, [0.1, 0.1, 0.9], 0, 2),
        (3, [0.5, 0.4, 0.3, 0.2, 0.9], 0, 4),
        (2, [0.0, 0.0, 0.0, 0.5], 0, 3),
    ],
)
def test_eval_recall_stops_after_as_many_epochs_without_a_better_one(
    make, patience, recalls, best_epoch, num_epochs
):
    callback = make(patience)
    assert _after(callback, recalls) == num_epochs
    assert callback.best_epoch == best_epoch


def _events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_eval_recall_is_written_for_tensorboard(make, tmp_path):
    callback = make()
    _recall(callback, _towers())
    callback._writer.flush()
    assert _events(tmp_path / "logs").Tags()["tensors"] == ["eval/recall@100"]


def test_distinct_items_holds_each_item_once_with_its_features(splits):
    transform = training_world.Transform()
    items = distinct_items(
        transform.space, transformed_batches(splits[0], transform, 7)
    )
    assert list(items) == ["item_id_xf", "item_genres_xf", "item_price_xf"]
    ids = items["item_id_xf"].numpy()
    assert ids.tolist() == sorted(set(TRAIN_ITEMS))
    np.testing.assert_allclose(items["item_price_xf"], ids / 10, rtol=1e-6)
    # Batches pad lists to widths of their own.
    for item, genres in zip(ids, items["item_genres_xf"].numpy(), strict=True):
        expected = [n for n in range(1, item + 1) if item % n == 0]
        assert genres[genres > 0].tolist() == expected


def test_frequency_board_writes_the_probabilities_of_the_buckets_hit(tmp_path):
    space = training_world.Transform().space
    model = TwoTower(space, RetrievalSettings(embedding_dim=2, frequency_buckets=64))
    for _ in range(3):
        model.frequency(tf.constant(["a", "b"]), training=True)
    callback = FrequencyBoard(tmp_path)
    callback.set_model(model)
    callback.on_epoch_end(4)
    events = _events(tmp_path)
    # No batch was watched, so there is no error.
    names = ["sampling_probability", "sampling_probability/log10"]
    assert sorted(events.Tags()["tensors"]) == names
    (event,) = events.Tensors("sampling_probability")
    assert event.step == 4
    buckets = tf.make_ndarray(event.tensor_proto)  # [n, (left, right, count)]
    assert buckets[:, 2].sum() == 2  # a and b, not the 62 others


class Estimating(tf.keras.Model):
    """Learns nothing but how often an item is in a micro-batch, two to a batch."""

    def __init__(self):
        super().__init__()
        self.frequency = StreamingFrequencyEstimator(64, alpha=0.5, initial_gap=7.0)

    def train_step(self, inputs):
        _, row = inputs
        for place in range(2):
            self.frequency(row["item_id"][place::2], training=True)
        return {"loss": 0.0}


# Batches of three rows and one of one: the micro-batches aa b, cb a, dc b, a.
STREAM = ["a", "b", "a", "c", "a", "b", "d", "b", "c", "a"]
STREAM_HITS = {"a": 3, "b": 3, "c": 2, "d": 1}


def check_error_of_stream(make, logs):
    model, callback = Estimating(), make(logs)
    epochs = iter([["d"] * 10, STREAM])
    items = tf.data.Dataset.from_generator(
        lambda: iter(next(epochs)), output_signature=tf.TensorSpec([], tf.string)
    )
    rows = items.batch(3).map(lambda item_ids: ({}, {"item_id": item_ids}))
    model.compile()
    model.fit(callback.watch(rows), epochs=2, callbacks=[callback], verbose=0)
    items = list(STREAM_HITS)
    exact = np.array(list(STREAM_HITS.values())) / 7
    estimated = np.exp(model.frequency.log_presence(tf.constant(items)))
    events = _events(logs)
    points = events.Tensors("sampling_error/mean_abs")
    assert [point.step for point in points] == [0, 1]
    np.testing.assert_allclose(
        tf.make_ndarray(points[-1].tensor_proto),
        np.abs(np.log10(estimated / exact)).mean(),
        rtol=1e-5,
    )
    _, histogram = events.Tensors("sampling_error/log10")
    assert tf.make_ndarray(histogram.tensor_proto)[:, 2].sum() == 4
    deciles = {
        tag.removeprefix("sampling_error/mean_abs_of_decile_")
        for tag in events.Tags()["tensors"]
        if "decile" in tag
    }
    # Of the first epoch's only item; of d, c, and both a and b.
    assert deciles == {"06", "02", "04", "08"}


class NeverResets(FrequencyBoard):
    def on_epoch_end(self, epoch, logs=None):
        counts = self._counts
        super().on_epoch_end(epoch, logs)
        self._counts = counts


def _whole_batches(logs):
    return FrequencyBoard(logs)


class CountsHalves(FrequencyBoard):
    def _count(self, item_ids):
        for half in np.array_split(item_ids, 2):
            self._counts.add(half.tolist())


def test_frequency_board_writes_the_error_against_an_epochs_exact_counts(tmp_path):
    check_error_of_stream(lambda logs: FrequencyBoard(logs, 2), tmp_path)


WRONG_BOARDS = [lambda logs: NeverResets(logs, 2), _whole_batches, CountsHalves]


@pytest.mark.parametrize("wrong", WRONG_BOARDS, ids=["sums", "batches", "halves"])
def test_checker_of_the_error_rejects(wrong, tmp_path):
    with pytest.raises(AssertionError):
        check_error_of_stream(wrong, tmp_path)

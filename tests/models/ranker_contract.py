"""What every ranker promises, whatever it computes.

The world is the checkerboard, told through every kind of feature: ids, the history and
one feature that says the parity, among others that say nothing.
"""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.signatures import transformed_signature
from schemas.features import Feature, FeatureCatalog, FeatureKind
from tests import worlds

WORLD = worlds.Checkerboard(24)
HISTORY_LENGTH = 6
LISTS = (
    *("history_item_ids_xf", "item_genres_xf", "item_title_xf"),
    *("item_tags_xf", "item_counts_xf"),
)

RELOAD = """
import sys
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
rows = np.load(sys.argv[1] + "/in.npz")
scores = loaded.score({key: tf.constant(value) for key, value in rows.items()})
np.save(sys.argv[1] + "/out.npy", scores)
halves = [np.load(sys.argv[1] + f"/{half}.npz") for half in ("query", "candidates")]
tensors = [{key: tf.constant(half[key]) for key in half} for half in halves]
np.save(sys.argv[1] + "/many.npy", loaded.score_candidates(*tensors))
"""


def space() -> FeatureSpace:
    """Returns a feature space with every side and every kind."""
    catalog = FeatureCatalog(
        user=(
            Feature(name="age", kind=FeatureKind.NUMERIC),
            Feature(name="group", kind=FeatureKind.CATEGORICAL),
            Feature(name="taste", kind=FeatureKind.VECTOR, size=2),
        ),
        item=(
            Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL),
            Feature(name="title", kind=FeatureKind.TEXT, hash_buckets=16),
            Feature(name="price", kind=FeatureKind.NUMERIC),
            Feature(name="tags", kind=FeatureKind.MULTI_CATEGORICAL, weights="counts"),
        ),
        context=(
            Feature(name="hour", kind=FeatureKind.CATEGORICAL),
            Feature(name="seed", kind=FeatureKind.ITEM_ID),
        ),
        history_length=HISTORY_LENGTH,
        id_hash_buckets=1,
    )
    sizes = {"user_id": WORLD.size, "item_id": WORLD.size, "user_group": 3}
    return FeatureSpace.from_vocabulary_sizes(
        catalog, {**sizes, "item_genres": 4, "item_tags": 3, "context_hour": 5}
    )


def rows_of(users, items, seed=0) -> dict[str, tf.Tensor]:
    """Returns the transformed tensors of (user, item) rows of the world.

    Lists are padded on the left, some to nothing: every seventh user is new.
    """
    rng = np.random.default_rng(seed)
    num_rows = len(users)
    history = np.zeros([num_rows, HISTORY_LENGTH], np.int64)
    for row, (user, item) in enumerate(zip(users, items, strict=True)):
        length = rng.integers(1, HISTORY_LENGTH + 1) if user % 7 else 0
        if length:
            liked = WORLD.history(user, without=item, length=length, rng=rng)
            history[row, -length:] = liked + 2
    genres = np.stack([items % 2 + 9, np.zeros(num_rows, np.int64)], axis=1)
    tags = rng.integers(0, 12, [num_rows, 2])
    shares = np.where(tags, rng.random([num_rows, 2]), 0.0)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
    arrays = {
        "user_id_xf": users + 2,  # 0 pads, 1 is the hash bucket
        "item_id_xf": items + 2,
        "history_item_ids_xf": history,
        "user_age_xf": rng.normal(size=num_rows).astype(np.float32),
        "user_group_xf": rng.integers(0, 12, num_rows),
        "item_genres_xf": genres,
        "item_title_xf": rng.integers(0, 17, [num_rows, 3]),
        "item_price_xf": rng.normal(size=num_rows).astype(np.float32),
        "context_hour_xf": rng.integers(0, 14, num_rows),
        "user_taste_xf": rng.normal(size=[num_rows, 2]).astype(np.float32),
        "item_tags_xf": tags,
        "item_counts_xf": shares.astype(np.float32),
        "context_seed_xf": rng.integers(0, WORLD.size + 2, num_rows),
    }
    return {key: tf.constant(value) for key, value in arrays.items()}


def items() -> dict[str, tf.Tensor]:
    """Returns the features of all items but one, as histories' events are read with."""
    ids = np.arange(WORLD.size - 1)
    rows = rows_of(ids, ids, seed=11)
    return {name: rows[name] for name in space().candidate_names}


def queries_and_candidates(num_queries=5, num_candidates=8):
    """Returns query tensors [B, ...], candidates' [B, C, ...] and the rows of all pairs."""
    shape = (num_queries, num_candidates)
    users, chosen = (grid.ravel() for grid in np.indices(shape))
    rows = rows_of(users, chosen)
    query = {key: rows[key][::num_candidates] for key in space().query_names}
    for key, value in query.items():  # one query for its rows
        rows[key] = tf.repeat(value, num_candidates, axis=0)
    candidates = {
        key: tf.reshape(rows[key], [*shape, *rows[key].shape[1:]])
        for key in space().candidate_names
    }
    return query, candidates, rows


def train(model, num_epochs=12, batch_size=64) -> None:
    """Fits the labels of every pair but the withheld ones, from logits."""
    users, items, labels = WORLD.impressions()
    optimizer = tf.keras.optimizers.Adam(0.01)

    @tf.function(reduce_retracing=True)
    def step(rows, labels):
        with tf.GradientTape() as tape:
            logits = model(rows, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses) + sum(model.losses)
        variables = model.trainable_variables
        optimizer.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )

    data = (rows_of(users, items), labels)
    batches = tf.data.Dataset.from_tensor_slices(data).shuffle(len(labels), seed=1)
    for batch in batches.batch(batch_size, drop_remainder=True).repeat(num_epochs):
        step(*batch)


class Scorer(tf.Module):
    """A ranker as a served graph holds it."""

    def __init__(self, model, rows):
        super().__init__()
        self.model = model
        signature = {
            key: tf.TensorSpec([None, *value.shape[1:]], value.dtype, name=key)
            for key, value in rows.items()
        }
        self.score = tf.function(
            lambda rows: model(rows, training=False), input_signature=[signature]
        )
        self.score_candidates = tf.function(
            lambda query, candidates: model.score_candidates(query, candidates),
            input_signature=[
                transformed_signature(space(), space().query_names),
                transformed_signature(space(), space().candidate_names, rank=2),
            ],
        )


class RankerContract:
    """Subclass it and fill in `make`; a trained model is shared by the tests."""

    def make(self, space: FeatureSpace) -> tf.keras.Model:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls):
        tf.keras.utils.set_random_seed(3)
        model = cls().make(space())
        train(model)
        return model

    @pytest.fixture
    def rows(self):
        return rows_of(np.arange(20), np.arange(20)[::-1].copy(), seed=9)

    def test_checkerboard_is_learned(self, trained):
        """Each user prefers the withheld item to every item of the other parity."""
        for user in range(WORLD.size):
            others = np.flatnonzero(np.arange(WORLD.size) % 2 != user % 2)
            items = np.array([user, *others])
            rows = rows_of(np.full(len(items), user), items, seed=user)
            logits = trained(rows).numpy()
            assert logits[0] > logits[1:].max(), user

    def test_scores_are_logits_and_not_probabilities(self, trained):
        """Their sigmoid fits the labels; half of them lie below 0."""
        users, items, labels = WORLD.impressions()
        logits = trained(rows_of(users, items)).numpy()
        assert logits.min() < -1.0 and logits.max() > 1.0
        prob = 1.0 / (1.0 + np.exp(-logits))
        assert np.abs(prob - labels).mean() < 0.1

    def test_scores_have_one_number_a_row(self, trained, rows):
        logits = trained(rows)
        assert logits.shape == (20,) and logits.dtype == tf.float32
        one = trained({key: value[:1] for key, value in rows.items()})
        assert one.shape == (1,)

    def test_batch_equals_single_rows(self, trained, rows):
        logits = trained(rows).numpy()
        for row in range(20):
            single = trained({key: value[row : row + 1] for key, value in rows.items()})
            np.testing.assert_allclose(single[0], logits[row], rtol=1e-4, atol=1e-5)

    def test_order_of_rows_is_irrelevant(self, trained, rows):
        order = np.random.default_rng(0).permutation(20)
        shuffled = {key: tf.gather(value, order) for key, value in rows.items()}
        np.testing.assert_allclose(
            trained(shuffled), trained(rows).numpy()[order], rtol=1e-4, atol=1e-5
        )

    def test_padding_is_irrelevant(self, trained, rows):
        """Longer lists of the same ids, as in a batch with a longer row."""
        padded = {
            key: tf.pad(value, [[0, 0], [3, 0]]) if key in LISTS else value
            for key, value in rows.items()
        }
        np.testing.assert_allclose(trained(padded), trained(rows), rtol=1e-4, atol=1e-5)

    def test_other_tensors_are_ignored(self, trained, rows):
        more = {**rows, "label": tf.random.normal([20])}
        np.testing.assert_array_equal(trained(more), trained(rows))

    def test_gradients_are_finite_and_reach_every_variable(self, rows):
        model = self.make(space())
        labels = tf.constant(np.arange(20) % 2, tf.float32)
        for _ in range(2):  # a weight that starts at 0 may hide another's gradient
            with tf.GradientTape() as tape:
                logits = model(rows, training=False)
                loss = tf.reduce_sum(
                    tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
                )
            gradients = tape.gradient(loss, model.trainable_variables)
            for variable, gradient in zip(
                model.trainable_variables, gradients, strict=True
            ):
                assert gradient is not None, variable.name
                gradient = tf.convert_to_tensor(gradient)
                assert np.isfinite(gradient).all(), variable.name
                variable.assign_sub(0.01 * gradient)
        for variable, gradient in zip(
            model.trainable_variables, gradients, strict=True
        ):
            assert np.any(tf.convert_to_tensor(gradient) != 0), variable.name

    def test_missing_tensor_is_named(self, trained, rows):
        del rows["item_genres_xf"]
        with pytest.raises(ValueError, match="item_genres_xf"):
            trained(rows)

    def test_row_of_which_nothing_is_known_has_a_finite_score(self, trained, rows):
        """All ids 0, all numbers 0; the lists of the whole batch may be empty."""
        nothing = {key: tf.zeros_like(value) for key, value in rows.items()}
        empty = {
            key: value[:, :0] if key in LISTS else value
            for key, value in nothing.items()
        }
        for known in (nothing, empty):
            with tf.GradientTape() as tape:
                logits = trained(known)
                total = tf.reduce_sum(logits)
            assert np.isfinite(logits).all()
            gradients = tape.gradient(total, trained.trainable_variables)
            for gradient in gradients:
                if gradient is not None:
                    assert np.isfinite(tf.convert_to_tensor(gradient)).all()
        np.testing.assert_allclose(
            trained(empty), trained(nothing), rtol=1e-4, atol=1e-5
        )

    def test_candidates_of_a_query_equal_rows(self, trained):
        """`score_candidates` on [B] queries and [B, C] candidates."""
        query, candidates, rows = queries_and_candidates()
        np.testing.assert_allclose(
            trained.score_candidates(query, candidates),
            tf.reshape(trained(rows), [5, 8]),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_order_of_candidates_is_irrelevant(self, trained):
        query, candidates, _ = queries_and_candidates()
        order = np.random.default_rng(0).permutation(8)
        shuffled = {
            key: tf.gather(value, order, axis=1) for key, value in candidates.items()
        }
        np.testing.assert_allclose(
            trained.score_candidates(query, shuffled),
            trained.score_candidates(query, candidates).numpy()[:, order],
            rtol=1e-4,
            atol=1e-5,
        )

    def test_missing_tensor_of_a_candidate_is_named(self, trained):
        query, candidates, _ = queries_and_candidates()
        del candidates["item_price_xf"]
        with pytest.raises(ValueError, match="item_price_xf"):
            trained.score_candidates(query, candidates)

    @pytest.mark.component
    def test_scores_survive_saving_and_loading_in_a_fresh_process(
        self, trained, rows, tmp_path
    ):
        tf.saved_model.save(Scorer(trained, rows), str(tmp_path))
        query, candidates, _ = queries_and_candidates()
        parts = {"in": rows, "query": query, "candidates": candidates}
        for name, tensors in parts.items():
            arrays = {key: value.numpy() for key, value in tensors.items()}
            np.savez(tmp_path / f"{name}.npz", **arrays)
        subprocess.run(
            [sys.executable, "-c", RELOAD, str(tmp_path)],
            check=True,
            timeout=120,
            cwd=tmp_path,
        )
        np.testing.assert_allclose(
            np.load(tmp_path / "out.npy"), trained(rows), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_allclose(
            np.load(tmp_path / "many.npy"),
            trained.score_candidates(query, candidates),
            rtol=1e-5,
            atol=1e-6,
        )

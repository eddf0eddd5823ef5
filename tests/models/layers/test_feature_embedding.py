import numpy as np
import pytest
import tensorflow as tf

from models.layers.feature_embedding import FeatureEmbedding, Field
from models.layers.history import masked_mean
from schemas.features import FeatureKind

FIELDS = [
    Field(FeatureKind.CATEGORICAL, 4),
    Field(FeatureKind.NUMERIC),
    Field(FeatureKind.MULTI_CATEGORICAL, 3),
    Field(FeatureKind.CATEGORICAL, 3, shares=2),
    Field(FeatureKind.TEXT, 5),
    Field(FeatureKind.NUMERIC),
    Field(FeatureKind.VECTOR, size=3),
    Field(FeatureKind.MULTI_CATEGORICAL, 3, shares=2, is_weighted=True),
    Field(FeatureKind.ITEM_ID, 4, shares=0),
]
TENSORS = [
    np.array([3, 0]),
    np.array([0.5, -2.0], np.float32),
    np.array([[2, 0, 1], [0, 0, 0]]),
    np.array([2, 1]),
    np.array([[4], [0]]),
    np.array([0.0, 1.0], np.float32),
    np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 0.0]], np.float32),
    (
        np.array([[2, 0, 1], [0, 1, 0]]),
        np.array([[0.75, 9.0, 0.5], [0, 1, 0]], np.float32),
    ),
    np.array([1, 0]),
]
# One table of 4 + 3 + 5 rows: row r is (r, r + 0.5). Two numeric vectors.
TABLE = np.arange(12)[:, np.newaxis] + np.array([0.0, 0.5])
NUMERIC = np.array([[10.0, 20.0], [30.0, 40.0]])
PROJECTION = np.array([[1.0, -1.0], [50.0, 60.0], [0.25, 2.0]])
# By hand: fields 0 and 8 start at row 0, fields 2, 3 and 7 at row 4, field 4 at row 7.
EXPECTED = [
    [
        *([3, 3.5], [5, 10], [5.5, 6], [6, 6.5], [11, 11.5], [0, 0]),
        *([1.5, 3], [7, 7.625], [1, 1.5]),
    ],
    [
        *([0, 0], [-20, -40], [0, 0], [5, 5.5], [0, 0], [30, 40]),
        *([0, 0], [5, 5.5], [0, 0]),
    ],
]


def _layer(layer_class=FeatureEmbedding):
    layer = layer_class(FIELDS, 2)
    layer.table.assign(TABLE)
    layer.numeric_vectors.assign(NUMERIC)
    layer.projections[0].assign(PROJECTION)
    return layer


def _tensors():
    return tf.nest.map_structure(tf.constant, TENSORS)


class PaddingIsAnItem(FeatureEmbedding):
    def _rows(self, rows, ids):
        return tf.gather(self.table, rows)


class OneTableForAll(FeatureEmbedding):
    def _rows(self, rows, ids):
        return super()._rows(ids, ids)


class SumsLists(FeatureEmbedding):
    def call(self, tensors, positions=None):
        counts = [
            tf.maximum(tf.math.count_nonzero(t, -1, dtype=tf.float32), 1.0)
            if not isinstance(t, tuple) and t.ndim > 1 and t.dtype.is_integer
            else tf.ones(2)
            for t in tensors
        ]
        return super().call(tensors) * tf.stack(counts, -1)[..., tf.newaxis]


class WeightsIgnored(FeatureEmbedding):
    def _weighted_sum(self, position, tensors):
        return masked_mean(self.lookup(position, tensors[0]), tensors[0])


class WeightsShared(FeatureEmbedding):
    def _weighted_sum(self, position, tensors):
        ids, weights = tensors
        total = tf.reduce_sum(weights * tf.cast(ids != 0, tf.float32), -1, True)
        return super()._weighted_sum(position, (ids, weights / total))


class SeedsOfTheirOwn(FeatureEmbedding):
    def _place_tables(self):
        first_row, num_rows = super()._place_tables()
        return [*first_row[:-1], 4], num_rows


def check_embedding(layer_class):
    vectors = _layer(layer_class)(_tensors())
    np.testing.assert_allclose(vectors, EXPECTED, rtol=1e-6)


WRONG_LAYERS = [
    *(PaddingIsAnItem, OneTableForAll, SumsLists),
    *(WeightsIgnored, WeightsShared, SeedsOfTheirOwn),
]


def test_feature_embedding_value():
    check_embedding(FeatureEmbedding)


@pytest.mark.parametrize("wrong", WRONG_LAYERS)
def test_feature_embedding_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_embedding(wrong)


def test_feature_embedding_of_some_fields():
    vectors = _layer()(
        [_tensors()[i] for i in (5, 7, 2, 6, 0)], positions=[5, 7, 2, 6, 0]
    )
    expected = np.array(EXPECTED)[:, [5, 7, 2, 6, 0]]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


def test_feature_embedding_of_candidates():
    """A second leading axis: the two rows as the two candidates of three queries."""
    tensors = tf.nest.map_structure(lambda x: tf.stack([x] * 3), _tensors())
    vectors = _layer()(tensors)
    np.testing.assert_allclose(vectors, [EXPECTED] * 3, rtol=1e-6)


def test_feature_embedding_lookup_reads_the_shared_table():
    ids = tf.constant([[0, 1], [2, 2]])
    expected = [[[0, 0], [5, 5.5]], [[6, 6.5], [6, 6.5]]]
    for position in (2, 3):
        np.testing.assert_allclose(_layer().lookup(position, ids), expected)


def test_feature_embedding_gradient_touches_only_the_rows_looked_up():
    layer = _layer()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(_tensors()))
    gradient = tape.gradient(total, layer.table)
    assert isinstance(gradient, tf.IndexedSlices)
    touched = tf.convert_to_tensor(gradient).numpy()[:, 0] != 0
    np.testing.assert_array_equal(np.flatnonzero(touched), [1, 3, 5, 6, 11])


def test_feature_embedding_draws_its_weights_apart():
    layer = FeatureEmbedding(FIELDS, 2)
    assert not np.allclose(layer.table[:2], layer.numeric_vectors)


def test_feature_embedding_config_round_trip_behaves_alike():
    second = FeatureEmbedding.from_config(_layer().get_config())
    second.table.assign(TABLE)
    second.numeric_vectors.assign(NUMERIC)
    second.projections[0].assign(PROJECTION)
    np.testing.assert_allclose(second(_tensors()), EXPECTED, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "dim", "message"),
    [
        (FIELDS, 0, r"`dim` should be >= 1. Received: dim=0"),
        ([Field(FeatureKind.VECTOR)], 2, r"`size` should be >= 1 for a vector field"),
        ([Field(FeatureKind.CATEGORICAL)], 2, r"`num_ids` should be >= 1 for a categ"),
        (
            [Field(FeatureKind.CATEGORICAL, 2, shares=0)],
            2,
            r"`shares` should be the position of an earlier field",
        ),
        (
            [FIELDS[0], Field(FeatureKind.CATEGORICAL, 9, shares=0)],
            2,
            r"`shares` should be the position of an earlier field with as many ids",
        ),
    ],
)
def test_feature_embedding_refuses_bad_arguments(fields, dim, message):
    with pytest.raises(ValueError, match=message):
        FeatureEmbedding(fields, dim)


def test_feature_embedding_refuses_a_missing_tensor():
    with pytest.raises(ValueError, match=r"one tensor per field, 9. Received: 1"):
        _layer()([tf.constant(TENSORS[0])])


def test_feature_embedding_refuses_a_weighted_field_without_weights():
    """Left out in silence, all values would count alike."""
    with pytest.raises(ValueError, match=r"\(ids, weights\) for the weighted field 7"):
        _layer()([tf.constant([[1, 2]])], positions=[7])


def test_feature_embedding_with_a_vector_survives_saving(tmp_path):
    layer = _layer()
    tf.train.Checkpoint(layer=layer).save(str(tmp_path / "at"))
    again = FeatureEmbedding(FIELDS, 2)
    path = tf.train.latest_checkpoint(str(tmp_path))
    tf.train.Checkpoint(layer=again).restore(path).assert_existing_objects_matched()
    np.testing.assert_allclose(again(_tensors()), EXPECTED, rtol=1e-6)


# What knots and counts change.

KNOTS = (-1.0, 0.0, 2.0)
BENDS = np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 8.0]], [[0.0, 1.0], [2.0, 0], [0, 0]]])


def check_knots(layer_class):
    """By hand: 0.5 lies by 3/4 at the knot 0 and by 1/4 at 2; -2 at the first knot."""
    layer = layer_class(FIELDS, 2, knots=KNOTS)
    layer.numeric_vectors.assign(NUMERIC)
    layer.numeric_bends.assign(BENDS)
    vectors = layer([_tensors()[i] for i in (1, 5)], positions=[1, 5])
    expected = [
        [[5 + 3.5, 10 + 5], [0 + 2, 0 + 0]],
        [[-20 + 1, -40 + 2], [30 + 1, 40 + 0]],
    ]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


class StraightLine(FeatureEmbedding):
    def _of_number(self, position, values):
        place = self._numeric.index(position)
        return values[..., tf.newaxis] * self.numeric_vectors[place]


class BendsOfTheFirstNumber(FeatureEmbedding):
    def _of_number(self, position, values):
        others = super()._of_number(position, values)
        of_others = super()._of_number(position, 0 * values)
        return others - of_others + super()._of_number(1, 0 * values)


def test_knots_value():
    check_knots(FeatureEmbedding)


@pytest.mark.parametrize("wrong", [StraightLine, BendsOfTheFirstNumber])
def test_knots_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_knots(wrong)


def check_shrinkage(layer_class):
    """By hand, of a prior of 3 rows: met once 1/4, three times 1/2, never 0."""
    layer = layer_class(FIELDS, 2, shrinkage=3.0)
    layer.table.assign(TABLE)
    counts = np.zeros(len(TABLE), np.int64)
    layer.add_counts(0, np.array([3, 0, 1]), counts)
    layer.add_counts(8, np.array([3, 3]), counts)  # reads the table of field 0
    layer.add_counts(2, np.array([[2, 0, 0], [2, 2, 0]]), counts)
    np.testing.assert_allclose(layer.lookup(0, tf.constant([3])), [TABLE[3]])
    layer.set_counts(counts)
    ids = tf.constant([3, 1, 2, 0])
    expected = [TABLE[3] / 2, TABLE[1] / 4, [0, 0], [0, 0]]
    np.testing.assert_allclose(layer.lookup(0, ids), expected, rtol=1e-6)
    lists = layer([tf.constant([[2, 1, 0]])], positions=[2])
    np.testing.assert_allclose(lists[0, 0], (TABLE[6] / 2 + 0) / 2, rtol=1e-6)


class CountsPadding(FeatureEmbedding):
    def set_counts(self, counts):
        super().set_counts(counts + 1)


class CountsOnlyOnce(FeatureEmbedding):
    def set_counts(self, counts):
        super().set_counts(np.minimum(counts, 1))


class SquareRoots(FeatureEmbedding):
    def set_counts(self, counts):
        self.row_scale.assign(np.sqrt(counts / (counts + self.shrinkage)))


def test_shrinkage_value():
    check_shrinkage(FeatureEmbedding)


@pytest.mark.parametrize("wrong", [CountsPadding, CountsOnlyOnce, SquareRoots])
def test_shrinkage_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_shrinkage(wrong)


def test_knots_and_shrinkage_survive_the_config():
    layer = FeatureEmbedding(FIELDS, 2, knots=KNOTS, shrinkage=3.0)
    second = FeatureEmbedding.from_config(layer.get_config())
    second.set_weights(layer.get_weights())
    np.testing.assert_array_equal(second(_tensors()), layer(_tensors()))
    assert second.shrinkage == 3.0


def test_feature_embedding_refuses_a_prior_below_0():
    with pytest.raises(ValueError, match="`shrinkage` should be >= 0"):
        FeatureEmbedding(FIELDS, 2, shrinkage=-1.0)

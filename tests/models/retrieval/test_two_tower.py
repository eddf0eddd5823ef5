import numpy as np
import pytest
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.retrieval.settings import RetrievalSettings
from models.retrieval.two_tower import TwoTower
from schemas.features import Feature, FeatureCatalog, FeatureKind
from tests import reference, worlds

WORLD = worlds.Checkerboard(16)
HISTORY_LENGTH = 6
CATALOG = FeatureCatalog(
    user=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="city", kind=FeatureKind.CATEGORICAL, hash_buckets=2),
    ),
    item=(
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL, hash_buckets=1),
        Feature(name="title", kind=FeatureKind.TEXT, hash_buckets=20),
        Feature(name="price", kind=FeatureKind.NUMERIC),
    ),
    history_length=HISTORY_LENGTH,
    id_hash_buckets=1,
)
SIZES = {"user_id": 16, "item_id": 16, "user_city": 3, "item_genres": 4}
SPACE = FeatureSpace.from_vocabulary_sizes(CATALOG, SIZES)
FIRST_ID = 2  # 0 pads, 1 is the bucket of unknown ids


def _model(space=SPACE, model_class=TwoTower, **changed):
    tf.keras.utils.set_random_seed(1)
    defaults = {
        "embedding_dim": 8,
        "history_encoder": "mean",
        "sampling_measure": "presence",
        "dropout": 0.0,
        "frequency_buckets": 4096,
    }
    model = model_class(space, RetrievalSettings(**defaults | changed))
    # Initial gains of 1 and scores of 0 would hide a gain or a score that is not read.
    rng = np.random.default_rng(2)
    for weight in (model.mean_gain, model.last_gain, model.history_mean.scores):
        weight.assign(rng.uniform(0.5, 1.5, size=weight.shape))
    return model


def _batch(num_rows=7, seed=0):
    """Returns rows with duplicate items, empty histories and missing values."""
    rng = np.random.default_rng(seed)
    history = rng.integers(1, 18, size=[num_rows, HISTORY_LENGTH])
    for row in range(num_rows):
        history[row, : rng.integers(0, HISTORY_LENGTH + 1)] = 0
    history[0] = 0
    items = rng.integers(FIRST_ID, FIRST_ID + 5, size=num_rows)
    features = {
        "user_id_xf": rng.integers(0, 18, num_rows),
        "history_item_ids_xf": history,
        "user_age_xf": rng.normal(size=num_rows).astype(np.float32),
        "user_city_xf": rng.integers(0, 6, num_rows),
        "item_id_xf": items,
        "item_genres_xf": rng.integers(0, 6, [num_rows, 3]),
        "item_title_xf": rng.integers(0, 21, [num_rows, 4]),
        "item_price_xf": rng.normal(size=num_rows).astype(np.float32),
    }
    row = {
        "item_id": np.array([f"item{n}" for n in items]),
        "reward": rng.uniform(0, 2, num_rows).astype(np.float32),
        "label": np.ones(num_rows, np.float32),
    }
    as_tensors = tf.nest.map_structure(tf.constant, (features, row))
    return as_tensors[0], as_tensors[1]


@pytest.mark.parametrize("training", [False, True])
def test_towers_give_unit_vectors_of_the_asked_length(training):
    model = _model(dropout=0.3)
    features, _ = _batch()
    for vectors in (
        model.embed_query(features, training),
        model.embed_candidates(features, training),
    ):
        assert vectors.shape == (7, 8)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def check_user_tower(embed_query):
    """Bias, gained mean and gained last item of the history, and the user's features."""
    model = _model()
    features, _ = _batch()
    history = features["history_item_ids_xf"].numpy()
    table = model.item_embedding.table.numpy()  # the ids' rows come first
    vectors = table[history] * (history != 0)[..., np.newaxis]
    expected = model.bias.numpy() + model.mean_gain.numpy() * (
        reference.recency_weighted_mean(
            vectors, history, model.history_mean.scores.numpy()
        )
    )
    for row in range(len(history)):
        if history[row].any():
            last = history[row][np.flatnonzero(history[row])[-1]]
            expected[row] += model.last_gain.numpy() * table[last]
        city = int(features["user_city_xf"][row])
        if city:
            expected[row] += model.user_embedding.table.numpy()[city]
        age = float(features["user_age_xf"][row])
        expected[row] += age * model.user_embedding.numeric_vectors.numpy()[0]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed_query(model, features), expected, atol=1e-5)


def _with_history(edit):
    return lambda model, features: model.embed_query(
        features | {"history_item_ids_xf": edit(features["history_item_ids_xf"])}
    )


WRONG_USER_TOWERS = {
    "oldest first read as newest first": _with_history(lambda ids: ids[:, ::-1]),
    "newest item dropped": _with_history(
        lambda ids: tf.concat([ids[:, :-1], tf.zeros_like(ids[:, :1])], 1)
    ),
    "features dropped": lambda model, features: model.embed_query(
        features | {"user_age_xf": tf.zeros_like(features["user_age_xf"])}
    ),
    "not normalised": lambda model, features: 2 * model.embed_query(features),
}


def test_user_tower_value():
    check_user_tower(TwoTower.embed_query)


@pytest.mark.parametrize("wrong", WRONG_USER_TOWERS.values(), ids=WRONG_USER_TOWERS)
def test_user_tower_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_user_tower(wrong)


def _items():
    """Returns the features of half of the items, by which histories may be read."""
    rng = np.random.default_rng(3)
    items = {
        "item_id_xf": np.arange(FIRST_ID, 10),
        "item_genres_xf": rng.integers(0, 6, [8, 3]),
        "item_title_xf": rng.integers(0, 21, [8, 4]),
        "item_price_xf": rng.normal(size=8).astype(np.float32),
    }
    return {name: tf.constant(values) for name, values in items.items()}


def check_history_content(encoder, embed):
    """A history is read as if each of its items were embedded as a candidate.

    So it gives what a model gives that knows no content, but has the items' whole vectors
    as its ids' rows; an item without known content has its id's row alone.
    """
    tf.keras.utils.set_random_seed(1)
    settings = RetrievalSettings(
        embedding_dim=8, dropout=0.0, frequency_buckets=64, history_encoder=encoder
    )
    model = TwoTower(SPACE, settings, _items())
    features, _ = _batch()
    model.embed_query(features)  # builds
    rng = np.random.default_rng(4)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(scale=0.3, size=weight.shape))
    found = embed(model, features)
    table = model.item_embedding.table.numpy()
    by_id = np.zeros([SPACE.item_id.num_ids, 8], np.float32)
    by_id[1:] = table[1 : len(by_id)]
    genres, titles = len(by_id), len(by_id) + SPACE.item[0].num_ids
    for row, item in enumerate(_items()["item_id_xf"].numpy()):
        for name, first in (("item_genres_xf", genres), ("item_title_xf", titles)):
            values = _items()[name].numpy()[row]
            values = values[values != 0]
            if len(values):
                by_id[item] += table[first + values].mean(axis=0)
        price = float(_items()["item_price_xf"][row])
        by_id[item] += price * model.item_embedding.numeric_vectors.numpy()[0]
    model.item_table = None
    table[: len(by_id)] = by_id
    model.item_embedding.table.assign(table)
    np.testing.assert_allclose(found, model.embed_query(features), atol=2e-5)


def _by_ids_alone(model, features):
    model.item_table = None
    return model.embed_query(features)


def _with_a_title_of_another(model, features):
    titles = model.item_table.columns["item_title_xf"]
    titles.assign(tf.roll(titles, 1, axis=0))
    return model.embed_query(features)


@pytest.mark.parametrize("encoder", ["mean", "attention"])
def test_a_history_is_read_with_its_items_content(encoder):
    check_history_content(encoder, TwoTower.embed_query)


@pytest.mark.parametrize("wrong", [_by_ids_alone, _with_a_title_of_another])
def test_history_content_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_history_content("mean", wrong)


def test_content_of_a_history_teaches_the_item_tower():
    model = TwoTower(SPACE, RetrievalSettings(embedding_dim=8), _items())
    features, _ = _batch()
    features["user_age_xf"] *= 0
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model.embed_query(features)[:, 0])
    table, numeric = tape.gradient(
        total,
        [model.item_embedding.table, model.item_embedding.numeric_vectors],
    )
    touched = np.unique(table.indices.numpy()[np.abs(table.values).sum(axis=1) > 0])
    assert (touched >= SPACE.item_id.num_ids).any(), "no row of a genre or a word"
    assert np.abs(numeric).sum() > 0


def test_padding_may_stand_anywhere_in_the_history():
    model = _model()
    features, _ = _batch()
    padded = []
    for history in ([0, 0, 3, 4, 5], [3, 4, 5, 0, 0], [3, 0, 4, 0, 5], [3, 4, 5]):
        row = {name: values[1:2] for name, values in features.items()}
        row["history_item_ids_xf"] = tf.constant([history], tf.int64)
        padded.append(model.embed_query(row).numpy())
    for vector in padded[1:]:
        np.testing.assert_allclose(vector, padded[0], atol=1e-6)


@pytest.mark.parametrize("length", [0, 1, HISTORY_LENGTH + 5])
def test_an_empty_history_of_any_width_gives_a_finite_vector(length):
    features, _ = _batch()
    features["history_item_ids_xf"] = tf.zeros([7, length], tf.int64)
    features["user_age_xf"] *= 0
    features["user_city_xf"] *= 0
    vectors = _model().embed_query(features).numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_a_batch_equals_single_rows():
    model = _model()
    features, _ = _batch()
    for embed in (model.embed_query, model.embed_candidates):
        together = embed(features).numpy()
        for row in range(7):
            alone = embed({k: values[row : row + 1] for k, values in features.items()})
            np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


def test_the_user_id_is_no_feature():
    model = _model()
    features, _ = _batch()
    other = features | {"user_id_xf": features["user_id_xf"] * 0}
    np.testing.assert_array_equal(model.embed_query(features), model.embed_query(other))


def _gradients(model, batch):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
    variables = model.trainable_variables
    return variables, tape.gradient(loss, variables)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_gradients_are_finite_and_reach_every_trainable_variable(dropout):
    variables, gradients = _gradients(_model(dropout=dropout), _batch(32))
    assert len(variables) == 9
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, variable.name
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(gradient).all(), variable.name
        assert gradient.any(), variable.name


def test_one_item_table_learns_from_both_roles():
    """Item 10 is a candidate only, item 11 in a history only; 12 is in neither."""
    model = _model()
    features, row = _batch(4)
    features["item_id_xf"] = tf.constant([10, 2, 3, 4], tf.int64)
    features["history_item_ids_xf"] = tf.constant([[0, 11]] * 4, tf.int64)
    row["item_id"] = tf.constant(["10", "2", "3", "4"])
    variables, gradients = _gradients(model, (features, row))
    table = next(
        tf.convert_to_tensor(gradient).numpy()
        for variable, gradient in zip(variables, gradients, strict=True)
        if variable is model.item_embedding.table
    )
    assert table[10].any() and table[11].any() and not table[12].any()
    assert not table[0].any()  # padding


def _slow_loss(correction=True, masks=True, rewards=True, temperature=0.2):
    """Returns a function that computes the loss of a batch in plain loops."""

    def loss(model, features, row, log_q):
        queries = model.embed_query(features).numpy().astype(np.float64)
        items = model.embed_candidates(features).numpy().astype(np.float64)
        ids = features["item_id_xf"].numpy()
        history = features["history_item_ids_xf"].numpy()
        total = 0.0
        for i in range(len(ids)):
            terms = {}
            for j in range(len(ids)):
                is_hit = ids[j] == ids[i] or ids[j] in history[i]
                if masks and j != i and is_hit:
                    continue
                terms[j] = queries[i] @ items[j] / temperature
                terms[j] -= log_q[j] if correction else 0.0
            nll = np.log(sum(np.exp(term) for term in terms.values())) - terms[i]
            total += nll * (row["reward"].numpy()[i] if rewards else 1.0)
        return total / len(ids)

    return loss


def check_loss(slow_loss, **changed):
    model = _model(temperature=0.2, **changed)
    estimator = reference.GapEstimator(alpha=0.01, initial_gap=100.0)
    for step in range(3):  # the estimator learns from step to step
        features, row = _batch(12, seed=step)
        names = row["item_id"].numpy().tolist()
        estimator.count(names)
        expected = slow_loss(model, features, row, estimator.log_q(names))
        actual = model.compute_loss((features, row), training=True)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_loss_equals_the_slow_reference():
    check_loss(_slow_loss())


def test_loss_without_correction_equals_the_slow_reference():
    check_loss(_slow_loss(correction=False), sampling_correction=False)


@pytest.mark.parametrize(
    "wrong",
    [
        _slow_loss(masks=False),
        _slow_loss(rewards=False),
        _slow_loss(correction=False),
        _slow_loss(temperature=1.0),
    ],
    ids=["no masks", "no rewards", "no correction", "no temperature"],
)
def test_loss_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_loss(wrong)


def check_learnt_temperature(model_class):
    """The loss is that of 0.2 e^0.5, and falls against its slope in the ratio's log."""
    batch = _batch(12)
    log_q = np.zeros(12)

    def loss_at(log_ratio):
        settings = {"sampling_correction": False, "learn_temperature": True}
        model = _model(temperature=0.2, model_class=model_class, **settings)
        model.log_temperature_ratio.assign(log_ratio)
        variables, gradients = _gradients(model, batch)
        slope = next(
            float(gradient)
            for variable, gradient in zip(variables, gradients, strict=True)
            if variable is model.log_temperature_ratio
        )
        slow = _slow_loss(correction=False, temperature=0.2 * np.exp(log_ratio))
        np.testing.assert_allclose(
            model.compute_loss(batch), slow(model, *batch, log_q), rtol=1e-5
        )
        return slow(model, *batch, log_q), slope

    step = 1e-3
    (below, _), (_, slope), (above, _) = map(loss_at, (0.5 - step, 0.5, 0.5 + step))
    np.testing.assert_allclose(slope, (above - below) / (2 * step), rtol=1e-3)


class Inverse(TwoTower):
    @property
    def temperature(self):
        return self.settings.temperature * tf.exp(-self.log_temperature_ratio)


class FromOne(TwoTower):
    @property
    def temperature(self):
        return tf.exp(self.log_temperature_ratio)


class Unlearnt(TwoTower):
    @property
    def temperature(self):
        return tf.stop_gradient(super().temperature) + 0.0 * self.log_temperature_ratio


def test_learnt_temperature():
    check_learnt_temperature(TwoTower)


@pytest.mark.parametrize("wrong", [Inverse, FromOne, Unlearnt])
def test_checker_rejects_wrong_temperatures(wrong):
    with pytest.raises(AssertionError):
        check_learnt_temperature(wrong)


def test_loss_outside_of_training_counts_nothing():
    model = _model()
    batch = _batch()
    losses = [float(model.compute_loss(batch, training=False)) for _ in range(2)]
    assert losses[0] == losses[1]
    assert int(model.frequency.step) == 0


def test_checkerboard_is_learned_from_the_histories():
    """Of the items it has not met, user u likes item u alone; u's id tells nothing."""
    catalog = FeatureCatalog(history_length=HISTORY_LENGTH, id_hash_buckets=1)
    space = FeatureSpace.from_vocabulary_sizes(catalog, {"user_id": 16, "item_id": 16})
    model = _model(space, temperature=0.2)
    users, items = WORLD.interactions()
    rng = np.random.default_rng(5)
    history = np.stack(
        [
            WORLD.history(user, without=item, length=HISTORY_LENGTH, rng=rng)
            for user, item in zip(users, items, strict=True)
        ]
    )
    features = {
        "history_item_ids_xf": history + FIRST_ID,
        "item_id_xf": items + FIRST_ID,
    }
    row = {
        "item_id": items.astype(str),
        "reward": np.ones(len(items), np.float32),
        "label": np.ones(len(items), np.float32),
    }
    data = tf.data.Dataset.from_tensor_slices((features, row)).shuffle(200, seed=1)
    model.compile(tf.keras.optimizers.Adam(0.03))
    model.fit(data.batch(28), epochs=40, verbose=0)
    everyone = np.arange(16)
    met = np.stack(
        [[i for i in everyone if i % 2 == u % 2 and i != u] for u in everyone]
    )
    queries = model.embed_query({"history_item_ids_xf": tf.constant(met + FIRST_ID)})
    vectors = model.embed_candidates({"item_id_xf": tf.constant(everyone + FIRST_ID)})
    scores = tf.matmul(queries, vectors, transpose_b=True).numpy()
    np.put_along_axis(scores, met, -np.inf, axis=1)
    np.testing.assert_array_equal(scores.argmax(axis=1), everyone)


@pytest.mark.parametrize("encoder", ["attention", "gru"])
def test_every_weight_of_an_encoder_is_there_before_the_first_batch(encoder):
    model = _model(history_encoder=encoder)
    before = {weight.ref() for weight in model.weights}
    model.embed_query(_batch()[0])
    assert {weight.ref() for weight in model.weights} == before


SEEDED = FeatureSpace.from_vocabulary_sizes(
    CATALOG.model_copy(
        update={"context": (Feature(name="seed_item", kind=FeatureKind.ITEM_ID),)}
    ),
    SIZES,
)


def check_seed_item(embed):
    """A seed item moves the query by a gain times its vector; none moves nothing.

    Without history and features the query before normalisation is the bias and the seed.
    """
    model = TwoTower(SEEDED, RetrievalSettings(embedding_dim=8), _items())
    rng = np.random.default_rng(6)
    (gain,) = model.seed_gains
    gain.assign(rng.uniform(0.5, 1.5, size=8))
    seeds = tf.constant([0, 3, 9], tf.int64)
    query = {
        "user_id_xf": tf.ones([3], tf.int64),
        "history_item_ids_xf": tf.zeros([3, 2], tf.int64),
        "user_age_xf": tf.zeros([3]),
        "user_city_xf": tf.zeros([3], tf.int64),
        "context_seed_item_xf": seeds,
    }
    known = {name: values[:8] for name, values in _items().items()}
    rows = [int(np.flatnonzero(known["item_id_xf"] == seed)[0]) for seed in (3, 9)]
    items = model.item_embedding(
        [known[name] for name in SPACE.candidate_names]
    ).numpy()  # [8, fields, 8]
    expected = np.tile(model.bias.numpy(), [3, 1])
    expected[1:] += gain.numpy() * items[rows].sum(axis=1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(embed(model, query), expected, atol=1e-5)


def _seed_by_its_id_alone(model, query):
    model.item_table = None
    return model.embed_query(query)


def _seed_of_another_row(model, query):
    seeds = query["context_seed_item_xf"]
    return model.embed_query(query | {"context_seed_item_xf": tf.roll(seeds, 1, 0)})


def _no_seed_is_an_item(model, query):
    seeds = tf.maximum(query["context_seed_item_xf"], 1)
    return model.embed_query(query | {"context_seed_item_xf": seeds})


def test_seed_item_value():
    check_seed_item(TwoTower.embed_query)


@pytest.mark.parametrize(
    "wrong", [_seed_by_its_id_alone, _seed_of_another_row, _no_seed_is_an_item]
)
def test_seed_item_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_seed_item(wrong)


@pytest.mark.parametrize("items", [None, _items()], ids=["ids", "content"])
def test_a_request_without_a_seed_is_a_request_without_the_feature(items):
    model = TwoTower(SEEDED, RetrievalSettings(embedding_dim=8), items)
    features, _ = _batch()
    seeded = features | {"context_seed_item_xf": tf.zeros([7], tf.int64)}
    found = model.embed_query(seeded)
    model.space = SPACE
    model.seed_gains = []
    np.testing.assert_allclose(found, model.embed_query(features), atol=1e-6)

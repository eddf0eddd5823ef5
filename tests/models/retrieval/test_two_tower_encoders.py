"""The history encoders inside the towers: what each can learn, and what none may do."""

import numpy as np
import pytest
import tensorflow as tf

from models.feature_space import FeatureSpace
from models.retrieval.settings import HistoryEncoder, Optimizer, RetrievalSettings
from models.retrieval.trainer import make_optimizer
from models.retrieval.two_tower import TwoTower
from schemas.features import FeatureCatalog

FIRST_ID = 2  # 0 pads, 1 is the bucket of unknown ids
SPACE = FeatureSpace.from_vocabulary_sizes(
    FeatureCatalog(history_length=4, id_hash_buckets=1), {"user_id": 1, "item_id": 6}
)
# Of two items before, one of each pair: 4 follows where they are alike, 5 where not.
# Each item tells nothing by itself, nor does a weighted sum of the two.
HISTORIES = np.array([[0, 2], [0, 3], [1, 2], [1, 3]])
NEXT = np.array([4, 5, 5, 4])


def model_of(encoder, **changed):
    tf.keras.utils.set_random_seed(3)
    settings = RetrievalSettings(
        embedding_dim=16,
        dropout=0.0,
        temperature=0.2,
        frequency_buckets=1024,
        history_encoder=encoder,
        **changed,
    )
    return TwoTower(SPACE, settings)


def queries_of(histories):
    padded = np.pad(histories + FIRST_ID, [[0, 0], [2, 0]])
    return {"history_item_ids_xf": tf.constant(padded)}


def chosen(model):
    """Returns which of the items 4 and 5 the model recommends after each history."""
    items = tf.constant([4, 5]) + FIRST_ID
    vectors = model.embed_candidates({"item_id_xf": items})
    scores = tf.matmul(
        model.embed_query(queries_of(HISTORIES)), vectors, transpose_b=True
    )
    return 4 + np.argmax(scores, axis=1)


def train(model, steps=150):
    features = queries_of(np.tile(HISTORIES, [8, 1]))
    features["item_id_xf"] = tf.constant(np.tile(NEXT, 8) + FIRST_ID)
    row = {
        "item_id": tf.constant(np.tile(NEXT, 8).astype(str)),
        "reward": tf.ones(32),
        "label": tf.ones(32),
    }
    model.compile(tf.keras.optimizers.Adam(0.03))
    data = tf.data.Dataset.from_tensors((features, row)).repeat(steps)
    model.fit(data, verbose=0)


@pytest.fixture(scope="module", params=[HistoryEncoder.ATTENTION, HistoryEncoder.GRU])
def trained(request):
    model = model_of(request.param)
    train(model)
    return model


def test_order_is_learned(trained):
    assert chosen(trained).tolist() == NEXT.tolist()


def test_mean_cannot_learn_it():
    """Or the world above would not show what an encoder adds."""
    model = model_of(HistoryEncoder.MEAN)
    train(model)
    assert chosen(model).tolist() != NEXT.tolist()


def test_vectors_have_unit_length_whatever_the_history(trained):
    histories = np.array([[-2, -2, -2, -2], [-2, -2, -2, 1], [0, 1, 2, 3]])
    found = trained.embed_query(
        {"history_item_ids_xf": tf.constant(histories + FIRST_ID)}
    )
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


def test_padding_may_stand_anywhere(trained):
    found = [
        trained.embed_query({"history_item_ids_xf": tf.constant([ids])}).numpy()
        for ids in ([0, 0, 2, 4], [2, 4, 0, 0], [2, 0, 4, 0], [2, 4])
    ]
    for vector in found[1:]:
        np.testing.assert_allclose(vector, found[0], atol=1e-5)


def test_batch_equals_single_rows(trained):
    together = trained.embed_query(queries_of(HISTORIES)).numpy()
    for row, vector in enumerate(together):
        alone = trained.embed_query(queries_of(HISTORIES[row : row + 1]))
        np.testing.assert_allclose(alone[0], vector, atol=1e-5)


def test_gradients_reach_every_variable(trained):
    features = queries_of(HISTORIES)
    features["item_id_xf"] = tf.constant(NEXT + FIRST_ID)
    row = {"item_id": tf.constant(NEXT.astype(str)), "reward": tf.ones(4)}
    with tf.GradientTape() as tape:
        loss = trained.compute_loss((features, row), training=True)
    variables = trained.trainable_variables
    for variable, gradient in zip(
        variables, tape.gradient(loss, variables), strict=True
    ):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all(), variable.name
        assert np.any(tf.convert_to_tensor(gradient)), variable.name


def test_trained_variables_are_those_the_settings_ask_for():
    def names(encoder, blocks=1):
        model = model_of(encoder, attention_blocks=blocks)
        model.embed_query(queries_of(HISTORIES))
        return {variable.name for variable in model.trainable_variables}

    plain = names(HistoryEncoder.MEAN)
    assert not any("history_attention" in name or "gru" in name for name in plain)
    assert any("gru" in name for name in names(HistoryEncoder.GRU))
    two = names(HistoryEncoder.ATTENTION, blocks=2)
    assert any("block_1" in name for name in two)
    assert not any("block_1" in name for name in names(HistoryEncoder.ATTENTION))


@pytest.mark.parametrize(
    ("optimizer", "name"), [(Optimizer.ADAMW, "AdamW"), ("sparse_adamw", "SparseAdamW")]
)
def test_optimizer_is_the_one_that_the_settings_name(optimizer, name):
    settings = RetrievalSettings(optimizer=optimizer, learning_rate=0.25)
    made = make_optimizer(settings)
    assert type(made).__name__ == name
    assert float(made.learning_rate) == 0.25


def test_sparse_optimizer_leaves_items_that_no_batch_holds():
    model = model_of(HistoryEncoder.MEAN)
    model.compile(make_optimizer(RetrievalSettings(optimizer="sparse_adamw")))
    before = model.item_embedding.table.numpy().copy()
    features = queries_of(HISTORIES[:2])  # items 0, 2 and 3
    features["item_id_xf"] = tf.constant(NEXT[:2] + FIRST_ID)
    row = {
        "item_id": tf.constant(["4", "5"]),
        "reward": tf.ones(2),
        "label": tf.ones(2),
    }
    model.fit(tf.data.Dataset.from_tensors((features, row)).repeat(3), verbose=0)
    moved = np.flatnonzero((model.item_embedding.table.numpy() != before).any(axis=1))
    # Row 0 pads: a batch holds it, and nothing reads it.
    assert set(moved.tolist()) - {0} == {n + FIRST_ID for n in (0, 2, 3, 4, 5)}

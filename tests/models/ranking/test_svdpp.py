import numpy as np
import pytest
import tensorflow as tf

from models.ranking.svdpp import SVDpp
from models.ranking.svdpp_settings import SVDppSettings
from tests import reference_ranking
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract, rows_of
from tests.models.ranking.embedded_rows import random_weights

SETTINGS = SVDppSettings(factors=6)
SPACE = ranker_contract.space()


class TestSVDpp(RankerContract):
    def make(self, space):
        return SVDpp(space, SETTINGS)


def _rows():
    """Rows some of whose histories hold the candidate, or an item twice."""
    rows = rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)
    history = rows["history_item_ids_xf"].numpy()
    history[1, -1] = rows["item_id_xf"][1]
    history[2, -2:] = rows["item_id_xf"][2]
    history[3, -3:] = history[3, -1]
    history[4, -1:] = 0
    history[5] = [0, 0, 0, 0, 0, rows["item_id_xf"][5]]
    rows["history_item_ids_xf"] = tf.constant(history)
    return rows


def check_forward(model_class):
    """Holds a model's logits to the formula, on given weights."""
    rows = _rows()
    model = model_class(SPACE, SETTINGS)
    random_weights(model, rows)
    p, q = np.split(model.factors.table.numpy(), [SPACE.user_id.num_ids])
    users, items = np.split(model.biases.table.numpy()[:, 0], [SPACE.user_id.num_ids])
    expected = [
        reference_ranking.svdpp_logit(
            int(rows["user_id_xf"][row]),
            int(rows["item_id_xf"][row]),
            rows["history_item_ids_xf"][row].numpy().tolist(),
            p,
            q,
            model.implicit.table.numpy(),
            (model.mean.numpy(), users, items),
        )
        for row in range(12)
    ]
    np.testing.assert_allclose(model(rows), expected, rtol=1e-4, atol=1e-5)


class HoldsTheTarget(SVDpp):
    """N with the candidate in it, as public implementations have it."""

    def logits(self, query, candidates, training):
        return super().logits(
            query | {"items": tf.zeros_like(query["items"])}, candidates, training
        )


class SharesY(SVDpp):
    """y is q."""

    def read_query(self, features, training):
        q = self.factors.table[SPACE.user_id.num_ids :]
        self.implicit.table.assign(q)
        return super().read_query(features, training)


class DividesByTheCount(SVDpp):
    """|N|^-1 in place of |N|^-1/2."""

    def read_query(self, features, training):
        query = super().read_query(features, training)
        root = tf.sqrt(tf.maximum(query["count"], 1))
        return query | {"sum": query["sum"] / root[:, tf.newaxis]}


class CountsRepeats(SVDpp):
    def read_query(self, features, training):
        query = super().read_query(features, training)
        history = features["history_item_ids_xf"]
        return query | {
            "sum": tf.reduce_sum(self.implicit.lookup(0, history), axis=1),
            "count": tf.reduce_sum(tf.cast(history != 0, tf.float32), axis=1),
        }


def test_svdpp_forward_equals_the_formula():
    check_forward(SVDpp)


@pytest.mark.parametrize(
    "wrong", [HoldsTheTarget, SharesY, DividesByTheCount, CountsRepeats]
)
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


def test_svdpp_penalty_covers_what_the_batch_read():
    model = SVDpp(SPACE, SETTINGS.model_copy(update={"l2": 0.5}))
    rows = _rows()
    random_weights(model, rows)
    model(rows, training=True)
    y = model.implicit.table.numpy()
    distinct = [set(row) - {0} for row in rows["history_item_ids_xf"].numpy().tolist()]
    users, items = (rows[name].numpy() for name in ("user_id_xf", "item_id_xf"))
    total = sum(np.square(y[list(row)]).sum() for row in distinct)
    for layer in (model.factors, model.biases):
        of_users, of_items = np.split(layer.table.numpy(), [SPACE.user_id.num_ids])
        total += np.square(of_users[users]).sum() + np.square(of_items[items]).sum()
    np.testing.assert_allclose(sum(model.losses), 0.5 * total / 12, rtol=1e-5)

import numpy as np
import pytest

from models.layers.fm_interaction import fm_interaction
from models.ranking.deepfm import DeepFM
from models.ranking.fm import FM
from models.ranking.fm_settings import FMSettings
from tests import reference
from tests.models import ranker_contract
from tests.models.ranker_contract import RankerContract, rows_of
from tests.models.ranking.embedded_rows import embed_rows

SETTINGS = FMSettings(embedding_dim=4)


class TestFM(RankerContract):
    def make(self, space):
        return FM(space, SETTINGS)


def check_forward(model_class):
    """Holds a model's logits to the formula, on given weights."""
    space = ranker_contract.space()
    rows = rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)
    model = model_class(space, SETTINGS)
    model(rows)
    rng = np.random.default_rng(0)
    model.set_weights([0.3 * rng.normal(size=w.shape) for w in model.get_weights()])
    vectors, first_order = (
        embed_rows(rows, space, *(variable.numpy() for variable in layer.variables))
        for layer in (model.vectors, model.first_order)
    )
    expected = (
        model.bias.numpy()
        + first_order[..., 0].sum(axis=1)
        + reference.fm_pairs(vectors)
    )
    np.testing.assert_allclose(model(rows), expected, rtol=1e-4, atol=1e-5)


class NothingAcross(FM):
    """Pairs within the query and within the candidate only."""

    def _joined(self, query, candidate, training):
        across = query[0].numpy().sum(-2) * candidate[0].numpy().sum(-2)
        return super()._joined(query, candidate, training) - across.sum(-1)


class PairsTwice(FM):
    """The double sum over i != j instead of i < j."""

    def _joined(self, query, candidate, training):
        within = fm_interaction(query[0]) + fm_interaction(candidate[0])
        return super()._joined(query, candidate, training) + within


class NoFirstOrder(FM):
    def _joined(self, query, candidate, training):
        zero = [(vectors, 0 * weights) for vectors, weights in (query, candidate)]
        return super()._joined(*zero, training)


def test_fm_forward_equals_the_formula():
    check_forward(FM)


@pytest.mark.parametrize("wrong", [NothingAcross, PairsTwice, NoFirstOrder])
def test_forward_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_forward(wrong)


def test_deepfm_without_its_network_is_an_fm():
    rows = rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)
    deep = DeepFM(ranker_contract.space())
    deep(rows)
    fm = FM(ranker_contract.space())
    fm(rows)
    for mine, theirs in zip(
        (fm.vectors, fm.first_order), (deep.vectors, deep.first_order), strict=True
    ):
        mine.set_weights(theirs.get_weights())
    deep.dnn.out.kernel.assign(0 * deep.dnn.out.kernel)
    np.testing.assert_allclose(fm(rows), deep(rows), rtol=1e-6)

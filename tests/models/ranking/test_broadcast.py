"""A request's user is read once, however many candidates are ranked for it.

What depends on the query alone must not grow with the number of candidates: neither on the
wire, where `recommend` takes one row a user, nor in the graph.
"""

import pytest
import tensorflow as tf

from models.ranking.registry import make_ranker
from models.ranking.settings import Model, RankingSettings
from tests.models import ranker_contract as world

NUM_USERS = 2


def _sizes_of_the_querys(score, num_candidates):
    """Returns how many numbers each operation makes that no candidate's values enter."""
    query, candidates, _ = world.queries_and_candidates(NUM_USERS, num_candidates)
    specs = [
        {
            key: tf.TensorSpec(values.shape, values.dtype, key)
            for key, values in of.items()
        }
        for of in (query, candidates)
    ]
    graph = tf.function(score).get_concrete_function(*specs).graph
    is_querys: dict[str, bool] = {}
    sizes = []
    for operation in graph.get_operations():  # in the order of their making
        name = operation.name
        if operation.type == "Placeholder":
            is_querys[name] = name in query
            if not is_querys[name]:
                is_querys[f"candidates {name}"] = name in candidates
            continue
        sources = [source.op.name for source in operation.inputs]
        # A shape holds no values: repeating a query by it is what must not be.
        of_candidates = operation.type != "Shape" and any(
            is_querys.get(f"candidates {source}") for source in sources
        )
        is_querys[f"candidates {name}"] = of_candidates
        is_querys[name] = not of_candidates and any(
            is_querys.get(source) for source in sources
        )
        if is_querys[name]:
            shapes = [output.shape for output in operation.outputs]
            sizes.append([shape.num_elements() or -1 for shape in shapes])
    return sizes


def check_broadcast(score):
    few, many = (_sizes_of_the_querys(score, number) for number in (8, 20))
    assert len(few) > 3 and few == many


def _ranker(model):
    ranker = make_ranker(world.space(), RankingSettings(model=model), world.items())
    query, candidates, _ = world.queries_and_candidates(NUM_USERS, 8)
    ranker.score_candidates(query, candidates)  # makes the variables
    return ranker


@pytest.mark.parametrize("model", [Model.DEEPFM, Model.DNN, Model.BAYESIAN_FM])
def test_what_a_query_brings_is_computed_once_for_all_candidates(model):
    ranker = _ranker(model)
    check_broadcast(ranker.score_candidates.python_function)


def _as_rows(ranker):
    """Every row with a query of its own, as a caller of a plain ranker sends them."""

    def score(query, candidates):
        number = candidates["item_id_xf"].shape[1]
        rows = {key: tf.repeat(values, number, axis=0) for key, values in query.items()}
        rows |= {
            key: tf.reshape(values, [-1, *values.shape[2:]])
            for key, values in candidates.items()
        }
        return tf.reshape(ranker(rows), [NUM_USERS, number])

    return score


def _copied(ranker):
    """One query for all, copied by the candidates' shape."""

    def score(query, candidates):
        number = tf.shape(candidates["item_id_xf"])[1]
        copies = tf.tile(query["user_taste_xf"][:, tf.newaxis], [1, number, 1])
        copies = tf.ensure_shape(
            copies, [NUM_USERS, *candidates["item_id_xf"].shape[1:], 2]
        )
        scores = ranker.score_candidates.python_function(query, candidates)
        return scores + tf.reduce_sum(0.0 * copies, axis=-1)

    return score


@pytest.mark.parametrize("wrong", [_as_rows, _copied])
def test_broadcast_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_broadcast(wrong(_ranker(Model.FM)))

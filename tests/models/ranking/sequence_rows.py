"""Rows of the contract's world as a sequence ranker embeds them, one by one.

What is embedded, `test_inputs.py` holds to a reference of its own.
"""

import dataclasses

import numpy as np

from models.ranking.inputs import flat
from tests import reference_ranking
from tests.models import ranker_contract
from tests.models.ranking.embedded_rows import random_weights

SPACE = ranker_contract.space()
ROWS = ranker_contract.rows_of(np.arange(12), np.arange(12)[::-1].copy(), seed=4)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row's vectors."""

    user: np.ndarray  # [Fq * K]
    events: np.ndarray  # [events, E], without padding; none for users 0 and 7
    item: np.ndarray  # [Fc * K]
    target: np.ndarray  # [E], the candidate as an event


def made(model_class, settings, items=True):
    """Returns a model with random weights, those of other runs too."""
    known = ranker_contract.items() if items else None
    model = model_class(SPACE, settings, known)
    random_weights(model, ROWS)
    return model


def rows_as_read(model) -> list[Row]:
    inputs = model.inputs_layer
    events, is_event = (part.numpy().astype(float) for part in inputs.events(ROWS))
    fields = inputs.candidates(ROWS)
    users = flat(inputs.query(ROWS)).numpy().astype(float)
    of_items = flat(fields).numpy().astype(float)
    targets = inputs.as_event(fields).numpy().astype(float)
    rows = [
        Row(user, of_row[kept > 0], item, target)
        for user, of_row, kept, item, target in zip(
            users, events, is_event, of_items, targets, strict=True
        )
    ]
    assert {len(row.events) for row in rows} >= {0, 1, 6}
    return rows


def weights(layer) -> list[np.ndarray]:
    """Returns a layer's values; of a Dense layer its kernel and, if any, its bias."""
    return [weight.numpy().astype(float) for weight in layer.weights]


def head(model, query: list[np.ndarray], item: list[np.ndarray]) -> float:
    """Returns b + MLP([query; item]) of a model whose head has two layers of ReLU."""
    mlp = model.head
    first = np.concatenate([mlp.query_dense.kernel, mlp.candidate_dense.kernel])
    return reference_ranking.mlp_output(
        np.concatenate([*query, *item]),
        [
            (first, mlp.bias.numpy()),
            tuple(weights(mlp.mlp)),
            (mlp.out.kernel.numpy(), np.array([model.bias.numpy()])),
        ],
    )


def check_logits(model, expected_of_row) -> None:
    """Holds a model's logits to `expected_of_row(Row)`."""
    expected = [expected_of_row(row) for row in rows_as_read(model)]
    np.testing.assert_allclose(model(ROWS), expected, rtol=1e-4, atol=1e-4)

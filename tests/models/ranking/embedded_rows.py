"""The embedded fields of a row, worked out in plain loops."""

import numpy as np


def embed_rows(rows, space, table, numeric, projection, features=None):
    """Returns [B, F, K]: the fields of rows of `ranker_contract.rows_of`, one by one.

    Args:
        rows: tensors by name.
        space: of the contract.
        table: the tables of ids, laid one behind the other in the order of `features`;
            the item's id, the history and the seed read one, the first of them.
        numeric: a vector for each numeric feature, in the same order.
        projection: of the one feature that is a vector.
        features: the F fields; None means the query's, then the candidate's.
    """
    num_rows = len(rows[space.user_id.name])
    query = [space.user_id, space.history, *space.user, *space.context]
    features = features or [*query, space.item_id, *space.item]
    of_items = (space.history_name, space.item_id.name, "context_seed_xf")
    start, numeric_row, next_row = {}, {}, 0
    for feature in features:
        shared = [start[name] for name in of_items if name in start]
        if feature.name in of_items and shared:
            start[feature.name] = shared[0]
            continue
        if feature.name in ("user_age_xf", "item_price_xf"):
            numeric_row[feature.name] = len(numeric_row)
        start[feature.name] = next_row
        next_row += feature.num_ids
    assert next_row == len(table)
    vectors = np.zeros([num_rows, len(features), table.shape[1]])
    for field, name in enumerate(feature.name for feature in features):
        values = rows[name].numpy()
        for row in range(num_rows):
            if name in numeric_row:
                vectors[row, field] = values[row] * numeric[numeric_row[name]]
                continue
            if name == "user_taste_xf":
                vectors[row, field] = values[row] @ projection
                continue
            ids = [i for i in np.atleast_1d(values[row]) if i != 0]
            found = [table[start[name] + i] for i in ids]
            if name == "item_tags_xf":
                weights = rows["item_counts_xf"].numpy()[row][values[row] != 0]
                found = [len(ids) * w * v for w, v in zip(weights, found, strict=True)]
            if ids:
                vectors[row, field] = np.mean(found, 0)
    return vectors


def random_weights(model, rows, seed=0):
    """Gives every trainable weight of a model a random value; builds it on the rows."""
    model(rows)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(0.3 * rng.normal(size=variable.shape))

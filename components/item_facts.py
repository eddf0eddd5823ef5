"""What a recommender is told of its items beside what models read, from the catalogue."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.candidate_selection_settings import CandidateSettings
from components.catalog_files import ITEMS_TABLE
from components.ingestion.errors import IngestionError
from components.item_times import times_of
from models.policy_settings import PolicySettings
from models.recommender_items import Caps, ItemFacts, Windows


def item_facts(
    catalog_uri: str,
    columns: CandidateSettings,
    policy: PolicySettings,
    vectors: np.ndarray,
) -> ItemFacts:
    """Reads the windows of the items, and what slates of them are capped by.

    Args:
        catalog_uri: folder of a `Catalog`.
        columns: name the columns of the windows.
        policy: what slates are capped by, and whether they are kept diverse.
        vectors: [N, D], of the item tower.

    Raises:
        IngestionError: if a column is not there, or holds what it may not.
    """
    table = pq.read_table(Path(catalog_uri) / ITEMS_TABLE)
    windows = Windows.of(
        *(
            times_of(table, f"candidates.{key}", getattr(columns, key), default)
            for key, default in columns.window_columns().items()
        )
    )
    caps = None
    if policy.caps:
        caps = Caps.of(
            [(limit, values_of(table, name)) for name, limit in policy.caps.items()]
        )
    return ItemFacts(windows, caps, vectors if policy.diversity else None)


def values_of(table: pa.Table, feature: str) -> Sequence[Sequence[str]]:
    """Returns each item's values of a categorical feature; none where it is missing.

    Raises:
        IngestionError: if the table has no such column.
    """
    if feature not in table.column_names:
        raise IngestionError(
            f"policy.caps.{feature}: the items table has no column `{feature}`. It has "
            f"{sorted(table.column_names)}; cap by one of these."
        )
    columns = table.column(feature).to_pylist()
    lists = [[value] if isinstance(value, str) else value or [] for value in columns]
    return [[value for value in values if value] for values in lists]  # "" is none

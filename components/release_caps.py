"""What the slates of a bundle are capped by, to hold its answers to."""

from pathlib import Path

import pyarrow.parquet as pq

from components.catalog_files import ITEMS_TABLE
from components.item_facts import values_of
from components.release_parts import parts_of_bundle
from schemas.features import ITEM_ID
from serving.contract import Cap


def caps_of_bundle(bundle: Path) -> tuple[Cap, ...]:
    """Reads the caps of a bundle's policy; none of one that keeps no parts."""
    parts = parts_of_bundle(bundle)
    if not parts.folder.is_dir():
        return ()
    caps = parts.settings().policy.caps
    if not caps:
        return ()
    table = pq.read_table(Path(parts.candidates_uri) / ITEMS_TABLE)
    items = table.column(ITEM_ID).to_pylist()
    return tuple(
        Cap(limit, dict(zip(items, values_of(table, name), strict=True)))
        for name, limit in caps.items()
    )

"""The files of a `Catalog` artifact; see `components.artifacts`."""

ITEMS_TABLE = "items.parquet"
ITEMS_EXAMPLES = "items.tfrecord.gz"

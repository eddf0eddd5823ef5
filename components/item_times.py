"""Times that stand in the items table: when an item came, when it may be shown."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.columns import to_timestamps

UNKNOWN = -1


def column_times(table: pa.Table, column: str) -> np.ndarray:
    """Reads a column as times.

    Args:
        table: of the catalogue.
        column: whole ms since the epoch, ISO 8601 texts (UTC where no zone stands there)
            or Arrow times.

    Returns:
        [n] int64, ms since the epoch, UTC; `UNKNOWN` where the value is missing or "".

    Raises:
        ValueError: names the column, the first value that is no time, and the mend.
    """
    values = table.column(column).combine_chunks()
    if pa.types.is_null(values.type):
        return np.full(len(values), UNKNOWN)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.if_else(pc.equal(values, ""), None, values)  # as CSV leaves it
    times, wrong = to_timestamps(values)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(
            f"items table: column `{column}` holds {int(wrong.sum())} value(s) that are "
            f"no time, the first {values[first].as_py()!r} in row {first + 1}. Write "
            "ISO 8601, or ms since the epoch; leave out what is not known."
        )
    return times.fill_null(UNKNOWN).to_numpy(zero_copy_only=False)

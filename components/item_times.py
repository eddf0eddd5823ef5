"""Times that stand in the items table: when an item came, when it may be shown."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.ingestion.columns import to_timestamps
from components.ingestion.errors import IngestionError

UNKNOWN = -1


def times_of(table: pa.Table, place: str, column: str, default: str) -> np.ndarray:
    """Reads the column that a config names, if the table has it.

    Args:
        table: of the catalogue.
        place: key of the config that names the column, for errors.
        column: what it names.
        default: what it names if nothing else is asked for; this one may be absent.

    Returns:
        [n] int64, ms since the epoch, UTC; `UNKNOWN` where there is no time.

    Raises:
        IngestionError: if the column is not there or holds what is no time.
    """
    if column in table.column_names:
        try:
            return column_times(table, column)
        except ValueError as error:
            raise IngestionError(f"{place}: {error}") from error
    if column == default:
        return np.full(table.num_rows, UNKNOWN)
    raise IngestionError(
        f"{place}: the items table has no column `{column}`. It has "
        f"{sorted(table.column_names)}; name one of these, or leave the key out."
    )


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

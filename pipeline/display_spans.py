"""The spans that were run, as a table for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from pipeline.span_report import RECALLS, SpanFigures


def spans_table(entries: Sequence[SpanFigures]) -> Table:
    """Returns the figures of the spans of one config."""
    table = Table(title="Each span after training through the one before")
    table.add_column("span")
    table.add_column("training")
    for name in (*RECALLS, "events", "rows learnt", "CPU seconds"):
        table.add_column(name, justify="right")
    table.add_column("gates")
    for entry in entries:
        how = "from scratch" if entry.is_first else entry.training.value
        table.add_row(
            entry.span,
            how.replace("_", " "),
            *(_with_interval(entry, name) for name in RECALLS),
            f"{entry.events:,}",
            f"{entry.rows:,}",
            f"{entry.cpu_seconds:.1f}",
            "passed" if entry.passed else "refused",
        )
    return table


def _with_interval(entry: SpanFigures, name: str) -> str:
    low, high = entry.intervals[name]
    return f"{entry.recall[name]:.3f} ({low:.3f} to {high:.3f})"

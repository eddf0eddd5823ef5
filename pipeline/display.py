"""What a person sees on the terminal: progress, tables of figures and of items."""

import shlex
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.gate import GateResult
from components.validate_examples_settings import DATA_GATE
from pipeline.display_ranking import show_ranking
from pipeline.display_retrieval import show_candidates, show_retrieval
from pipeline.layout import Layout

_ACCOUNT = {"read": "", "accepted": "= ", "duplicates": "+ ", "dead_letters": "+ "}
_SPANS_SHOWN = 7


class StageProgress:
    """Prints a line for each stage as it ends, with its seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._started = time.monotonic()

    def __call__(self, stage: str) -> None:
        """Notes that `stage` starts, and so that the one before it ended."""
        self.finish()
        self._stage, self._started = stage, time.monotonic()

    def finish(self) -> None:
        """Notes that the last stage ended."""
        if self._stage:
            seconds = time.monotonic() - self._started
            self._console.print(
                f"  {self._stage:<20} {seconds:6.1f} s", highlight=False
            )
        self._stage = ""


def show_figures(console: Console, figures: dict) -> None:
    """Prints the figures of a run beside their baselines."""
    if "candidates" in figures:
        show_candidates(console, figures["candidates"])
    if "retrieval" in figures:
        show_retrieval(console, figures["retrieval"])
    if "ranking" in figures:
        show_ranking(console, figures["ranking"])
    if "serving" in figures:
        serving = figures["serving"]
        console.print(
            f"Served top 10 equal the offline computation for "
            f"{serving['offline_agreement']:.1%} of {serving['users']} test users; the "
            f"index keeps {serving['index_agreement']:.1%} of the exact top 10."
        )


def show_gates(console: Console, gates: dict) -> None:
    """Prints each gate's answer."""
    for gate in gates.values():
        mark = "[green]passed[/green]" if gate["passed"] else "[red]refused[/red]"
        # A reason can quote the log, and what looks like markup there is text.
        reason = escape(gate["reason"])
        console.print(f"  {mark}  {reason}", highlight=False, soft_wrap=True)


def show_refusals(console: Console, refused: list[GateResult], layout: Layout) -> None:
    """Prints why nothing was pushed, and where to read more."""
    lines = [
        *(f"[red]Nothing was pushed:[/red] {escape(gate.reason)}" for gate in refused),
        f"The full report is in {layout.report}.",
    ]
    if any(gate.gate == DATA_GATE for gate in refused):
        lines.append(
            f"The data, feature by feature: open {layout.data_report} in a browser."
        )
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def show_accounts(console: Console, ingest: dict, root: Path) -> None:
    """Prints, per source and span, that every record read is accounted for."""
    table = Table(box=None, pad_edge=False)
    table.add_column("  records", no_wrap=True)
    for kind, sign in _ACCOUNT.items():
        table.add_column(sign + kind.replace("_", " "), justify="right", no_wrap=True)
    for name, source in ingest["sources"].items():
        table.add_row(f"  {name}", *(f"{source[kind]:,}" for kind in _ACCOUNT))
        for span, counts in _shown_spans(source.get("spans", {})):
            cells = (f"{counts[kind]:,}" for kind in _ACCOUNT)
            table.add_row(f"    {span}", *cells, style="dim")
    console.print(table)
    responses = ingest.get("responses", {})
    if any(responses.values()):
        console.print(
            "  responses: {joined:,} joined to their impression, {late:,} late, "
            "{early:,} early, {orphans:,} orphans; impressions: "
            "{answered_impressions:,} answered, {open_impressions:,} open".format(
                **responses
            ),
            highlight=False,
            soft_wrap=True,
        )
    if ingest.get("capped_events"):
        console.print(
            f"  capped: {ingest['capped_events']:,} events of "
            f"{ingest['capped_users']:,} user(s) beyond the daily limit give no rows",
            highlight=False,
            soft_wrap=True,
        )
    refused = [name for name, s in ingest["sources"].items() if s["dead_letters"]]
    for name in refused:
        console.print(
            f"  dead letters of {name}, by reason: tandem data dead-letters --root "
            f"{shlex.quote(str(root))} --table {name}",
            highlight=False,
            soft_wrap=True,
        )


def _shown_spans(spans: dict[str, dict]) -> list[tuple[str, dict]]:
    """Returns the rows of a source's spans; none for a source without spans."""
    if set(spans) <= {""}:
        return []
    dated = [(span, counts) for span, counts in spans.items() if span]
    older, rows = dated[:-_SPANS_SHOWN], dated[-_SPANS_SHOWN:]
    if older:
        sums = {kind: sum(counts[kind] for _, counts in older) for kind in _ACCOUNT}
        rows.insert(0, (f"{len(older)} older spans", sums))
    if "" in spans:
        rows.append(("replayed", spans[""]))
    return rows


def show_next(console: Console, root: Path, release: int | None) -> None:
    """Prints where everything lies and what to type next."""
    console.print(
        f"\nRelease {release} is in {root}/serving, the figures in "
        f"{root}/report/metrics.json, the data in {root}/report/data.html, the log in "
        f"{root}/run.log. Next:",
        highlight=False,
        soft_wrap=True,
    )
    for command in ("serve", "recommend --user-id 405", "tensorboard"):
        console.print(
            f"  uv run tandem {command} --root {root}", highlight=False, soft_wrap=True
        )


def items_table(title: str, rows: list[dict]) -> Table:
    """Returns a table of recommended items.

    Args:
        title: above the table.
        rows: `title`, `score`, `propensity` each.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("title")
    table.add_column("score", justify="right")
    table.add_column("propensity", justify="right")
    for place, row in enumerate(rows, start=1):
        table.add_row(
            str(place), row["title"], f"{row['score']:.3f}", f"{row['propensity']:.4f}"
        )
    return table

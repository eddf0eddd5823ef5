"""What a person sees of dead letters on the terminal."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.ingestion.dead_letters import LetterCounts
from components.ingestion.replay import ReplayCounts
from pipeline.config import CONFIG_DIR


def show_export(
    console: Console,
    counts: LetterCounts,
    *,
    config_name: str,
    table: str,
    root: Path,
    output: Path | None,
) -> None:
    """Prints why records were refused, and what to type next."""
    if counts.replayed:
        _say(
            console,
            f"Mended and replayed before: {counts.replayed:,} of {table}; --all shows them "
            "too.",
        )
    if not counts.exported:
        other = "other " if counts.replayed else ""
        _say(
            console,
            f"The latest ingestion of {config_name}: no {other}dead letters of {table}.",
        )
        return
    shown = Table(
        title=f"Dead letters of {table}: {counts.exported:,}", title_justify="left"
    )
    shown.add_column("reason", overflow="fold")
    shown.add_column("records", justify="right")
    shown.add_column("first at", overflow="fold")
    for rule, count in counts.rules.most_common():
        file, position = counts.examples[rule]
        place = f"{file.rsplit('/', 1)[-1]}:{position}"
        # Text, as a file's name or a log's own words may look like markup.
        shown.add_row(Text(rule), f"{count:,}", Text(place))
    console.print(shown)
    at_root = f"--root {shlex.quote(str(root))}"
    if table != "events":
        at_root += f" --table {table}"
    if output is None:
        _say(console, f"Next: tandem data dead-letters {at_root} --output dead.jsonl")
        return
    _say(console, f"Wrote them to {output}.")
    if counts.unsplit:
        _say(
            console,
            f"Not split into fields: {counts.unsplit:,}. Give them fields in place of "
            "`_raw`.",
        )
    is_shipped = (CONFIG_DIR / f"{config_name}.yaml").is_file()
    config = config_name if is_shipped else "CONFIG.yaml"
    _say(
        console,
        f"Next: mend its lines, then tandem data replay-dead-letters --config {config} "
        f"{at_root} {shlex.quote(str(output))}",
    )


def show_replay(
    console: Console, counts: ReplayCounts, *, table: str, arguments: str
) -> None:
    """Prints what passed, why the others did not, and what to type next.

    Args:
        console: to print on.
        counts: of the replay.
        table: events, items or users.
        arguments: the config and root options, as typed.
    """
    if counts.file:
        _say(console, f"Passed: {counts.replayed:,} of {table}, kept in {counts.file}")
    if counts.known:
        _say(console, f"Replayed before, and not added again: {counts.known:,}")
    if counts.left:
        shown = Table(title=f"Still refused: {counts.left:,}", title_justify="left")
        shown.add_column("reason", overflow="fold")
        shown.add_column("records", justify="right")
        for rule, count in counts.rules.most_common():
            shown.add_row(Text(rule), f"{count:,}")
        console.print(shown)
        if counts.unmended:
            _say(
                console,
                f"Not mended, with `_raw` and no fields: {counts.unmended:,} of them.",
            )
        chosen = "" if table == "events" else f" --table {table}"
        _say(
            console,
            f"They are in {counts.left_file}. Mend them, then tandem data "
            f"replay-dead-letters {arguments}{chosen} "
            f"{shlex.quote(str(counts.left_file))}",
        )
    if counts.replayed or counts.known:
        _say(console, f"Next: tandem run {arguments}")
    elif not counts.left:
        _say(console, f"No dead letters of {table} to replay.")


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)

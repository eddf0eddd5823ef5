"""`tandem spans`: the spans of a log one after the other."""

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_options import REFUSED, config_options, json_option, root_option

# Commands import what they need: TFX and TensorFlow take seconds.


@click.command()
@config_options
@root_option
@click.option(
    "--from", "first", metavar="SPAN", help="The first to test on; default: the second."
)
@click.option("--to", "last", metavar="SPAN", help="The last; default: the newest.")
@json_option
def spans(
    config_path: str,
    overrides: tuple[str, ...],
    root: Path,
    first: str | None,
    last: str | None,
    as_json: bool,
) -> None:
    """Run a log's spans, oldest to newest, continued and from scratch, and draw both."""
    from pipeline.config import load_config
    from pipeline.layout import Layout

    config = load_config(config_path, overrides)
    console = Console(stderr=True)
    console.print("Loading TFX ...", highlight=False)
    from pipeline import display
    from pipeline.display_spans import spans_table
    from pipeline.span_report import read_spans
    from pipeline.span_walk import spans_to_walk, walk_spans

    chosen = spans_to_walk(config, root, first, last)
    progress = display.StageProgress(console)

    def announce(span_run) -> None:
        progress.finish()
        how = "from scratch" if span_run.from_scratch else "continued"
        place = f"{chosen.index(span_run.span) + 1} of {len(chosen)}"
        console.print(f"Span {span_run.span} ({place}), {how}", highlight=False)

    try:
        result = walk_spans(config, root, chosen, announce, progress)
    finally:
        progress.finish()
    layout = Layout(root.resolve())
    entries = read_spans(layout.spans, config.name)
    if as_json:
        click.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
    else:
        Console().print(spans_table(entries))
    console.print(f"Drawn in {layout.spans_page}", highlight=False)
    if result.refused:
        display.show_refusals(console, result.refused, layout)
        sys.exit(REFUSED)

"""`tandem skew`: was what was served what training would see?"""

import dataclasses
import json
import sys
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_options import FAILED, json_option, root_option


@click.command()
@root_option
@click.option(
    "--last",
    "most",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many slates, the latest.",
)
@click.option(
    "--request-log",
    "request_logs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file of PredictionLog records, beside those of `tandem serve "
    "--log-requests`; may be given more than once.",
)
@json_option
def skew(root: Path, most: int, request_logs: tuple[Path, ...], as_json: bool) -> None:
    """Score logged slates anew, offline; ends with 1 where served and offline differ."""
    from pipeline.skew import SkewError, check_skew

    try:
        report, num_gone = check_skew(root, most, request_logs)
    except SkewError as error:
        raise click.ClickException(str(error)) from error
    console = Console(stderr=as_json)
    mark = "[green]ok[/green]  " if report.agrees else "[red]fail[/red]"
    console.print(
        f"{mark} {report.requests} slates, {report.items} scores; the largest difference "
        f"is {report.largest_score_difference:.1e}",
        highlight=False,
    )
    for what, count in report.counts.most_common():
        console.print(f"     {what} differs in {count} slates", highlight=False)
    for one in report.differences:
        text = f"     {one.what} of {one.user_id} in {one.request_id}: "
        text += f"served {one.served}, offline {one.offline}"
        console.print(text, highlight=False, markup=False)
    if report.unknown_items:
        console.print(
            f"     {report.unknown_items} shown items are in no table of items"
        )
    unseen = report.requests - report.with_inputs
    if unseen:
        console.print(
            f"     of {unseen} it is not logged what the model was told (`tandem serve "
            "--log-requests`); their scores alone are compared",
            highlight=False,
        )
    if report.late:
        console.print(
            f"     before {report.late} something happened that came after them",
            highlight=False,
        )
    if num_gone:
        console.print(f"     {num_gone} left out: their releases are gone")
    if as_json:
        told = dataclasses.asdict(report) | {
            "agrees": report.agrees,
            "releases_gone": num_gone,
            "counts": dict(report.counts),
        }
        click.echo(json.dumps(told))
    sys.exit(0 if report.agrees else FAILED)

"""`tandem items`: what may be recommended, brought up to date without a run."""

import datetime
import shlex
import sys
import time
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_options import REFUSED, config_options, json_option, root_option

# Commands import what they need: TFX and TensorFlow take seconds.


class Moment(click.ParamType):
    """A moment in ISO 8601, UTC where no zone is given."""

    name = "moment"

    def convert(self, value, param, ctx) -> datetime.datetime:
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"`{value}` should be ISO 8601, as 2026-11-22T18:00+01:00.")
        return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


@click.group()
def items() -> None:
    """Add, change and take away items of a release, without training."""


@items.command("refresh")
@config_options
@root_option
@click.option(
    "--at",
    type=Moment(),
    help="The moment that availability is judged at; default: `candidates.at` of the "
    "config, and without one the present.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option(
    "--no-rebuild",
    is_flag=True,
    help="Fail where the index is due to be built anew, which takes minutes for a large "
    "catalogue.",
)
@click.option(
    "--max-removed-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Fail where a larger share of the items would go, as after half an export.",
)
@click.option(
    "--leave-out-incomplete",
    is_flag=True,
    help="Leave out new items that lack features, in place of failing.",
)
@json_option
def refresh(
    config_path: str,
    overrides: tuple[str, ...],
    root: Path,
    at: datetime.datetime | None,
    dry_run: bool,
    no_rebuild: bool,
    max_removed_share: float,
    leave_out_incomplete: bool,
    as_json: bool,
) -> None:
    """Bring the newest release up to date with the items table and the deny list.

    New and changed items are embedded by the release's own towers; nothing is trained.
    A model server that watches the root takes the new version over by itself. Ends with
    3, and pushes nothing, where a gate refuses it.
    """
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    console = Console(stderr=True)
    console.print("Loading TensorFlow ...", highlight=False)
    from pipeline.display import StageProgress
    from pipeline.display_refresh import show_refresh
    from pipeline.refresh import RefreshOptions, refresh_items, to_json

    options = RefreshOptions(
        at, not no_rebuild, max_removed_share, leave_out_incomplete, dry_run
    )
    begin = time.monotonic()
    progress = StageProgress(console)
    try:
        result = refresh_items(config, root, options, progress)
    finally:
        progress.finish()
    seconds = time.monotonic() - begin
    again = ["--config", config_path, "--root", str(root)]
    for override in overrides:
        again += ["--set", override]
    show_refresh(Console(stderr=as_json), result, options, shlex.join(again))
    if as_json:
        click.echo(to_json(result, seconds))
    if result.refused:
        sys.exit(REFUSED)

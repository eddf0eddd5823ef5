"""`tandem releases` and `tandem rollback`: which releases there are, and back to one."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from pipeline.cli_options import FAILED, json_option, root_option

# Commands import what they need: some of it takes seconds.


@click.command()
@root_option
@json_option
def releases(root: Path, as_json: bool) -> None:
    """List the releases of a root, and say which one serves."""
    from pipeline.layout import Layout
    from serving.release_layout import list_releases, read_manifest

    serving_root = Layout(root).serving
    manifests = [read_manifest(serving_root, v) for v in list_releases(serving_root)]
    if as_json:
        told = [
            manifest.model_dump(include={"version", "created", "refresh", "rollback"})
            for manifest in manifests
        ]
        click.echo(json.dumps({"releases": told}))
        return
    table = Table("release", "made", "what")
    for place, manifest in enumerate(manifests, start=1):
        what = "serves" if place == len(manifests) else ""
        if manifest.rollback:
            taken = manifest.rollback
            what = f"{what} the files of {taken.to}; took back {taken.of}".strip()
            what += f" ({taken.reason})" if taken.reason else ""
        elif manifest.refresh:
            what = f"{what} a refresh of {manifest.refresh.base}".strip()
        table.add_row(str(manifest.version), manifest.created, what)
    Console().print(table if manifests else f"No release in {serving_root}.")


@click.command()
@root_option
@click.option(
    "--to",
    type=int,
    help="Version to return to; default: the newest with other content than what serves.",
)
@click.option("--reason", default="", help="Is noted in the release's manifest.")
@json_option
def rollback(root: Path, to: int | None, reason: str, as_json: bool) -> None:
    """Take the newest release back: an earlier one serves again, under a new version."""
    from components.push_release import PushError
    from components.push_settings import PushSettings
    from components.roll_back import roll_back
    from pipeline.config import TandemConfig
    from pipeline.layout import Layout

    layout = Layout(root)
    settings = PushSettings()
    if layout.config.exists():
        settings = TandemConfig.model_validate_json(layout.config.read_text()).push
    try:
        manifest = roll_back(layout.serving, settings, to, reason)
    except PushError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(FAILED) from error
    taken = manifest.rollback
    if as_json:
        click.echo(json.dumps({"version": manifest.version, **taken.model_dump()}))
        return
    click.echo(
        f"Release {taken.of} is taken back: {manifest.version} serves, with the files of "
        f"{taken.to}. A server that polls takes over by itself."
    )
    click.echo(f"Next: tandem releases --root {root}")

"""`tandem data`: what is done to data beside a run."""

import json
from pathlib import Path

import click

from pipeline.cli_options import json_option, root_option

# Commands import what they need: TFX and TensorFlow take seconds.


@click.group()
def data() -> None:
    """Fetch public data sets."""


@data.command("fetch")
@click.argument("name")
@root_option
@json_option
def data_fetch(name: str, root: Path, as_json: bool) -> None:
    """Fetch the data set NAME into <root>/data, hash-checked."""
    from pipeline.datasets import DATASETS, fetch
    from pipeline.layout import Layout

    if name not in DATASETS:
        raise click.BadParameter(
            f"`{name}` is none of {sorted(DATASETS)}.", param_hint="NAME"
        )
    fetched = fetch(name, Layout(root).data, lambda line: click.echo(line, err=True))
    if as_json:
        paths = {table: str(path) for table, path in fetched.paths.items()}
        click.echo(json.dumps({"name": name, "paths": paths, "counts": fetched.counts}))
    else:
        click.echo(f"Next: tandem run --config {name} --root {root}")

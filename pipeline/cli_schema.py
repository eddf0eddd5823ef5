"""`tandem schema`: what TFDV is to expect of a log's rows."""

import json
from pathlib import Path

import click

from pipeline.cli_options import config_options, json_option, root_option


@click.group()
def schema() -> None:
    """Make the curated schema that the data gate holds a log against."""


@schema.command("infer")
@config_options
@root_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The text protobuf to write, e.g. my.pbtxt.",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@json_option
def schema_infer(
    config_path: str,
    overrides: tuple[str, ...],
    root: Path,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Infer a schema from the log of a config, to be reviewed and kept.

    Relative paths of the config start at the root, that of the output where you stand.
    """
    from pipeline.config import load_config

    config = load_config(config_path, overrides)
    if output.exists() and not force:
        raise click.BadParameter(
            f"`{output}` is there, perhaps curated by hand. Give another name, or "
            "`--force`.",
            param_hint="--output",
        )
    click.echo("Loading TFX ...", err=True)
    from pipeline.infer_schema import infer_schema

    inferred = infer_schema(config, root)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(inferred.text)
    if as_json:
        summary = {
            "output": str(output),
            "rows": inferred.rows,
            "features": [feature.name for feature in inferred.schema.feature],
            "domains": inferred.domains,
            "open_ended": inferred.open_ended,
        }
        click.echo(json.dumps(summary))
        return
    click.echo(
        f"Wrote {output}: {len(inferred.schema.feature)} features of {inferred.rows:,} "
        "rows of the train split."
    )
    for what, keys in (
        ("Closed sets of values", inferred.domains),
        ("Open-ended", inferred.open_ended),
    ):
        click.echo(f"  {what}: {', '.join(keys) or 'none'}")
    click.echo(
        f"Review it, then: tandem run --config {config_path} --root {root} "
        f"--set schema_file={output}"
    )

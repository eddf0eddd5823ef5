"""`tandem data`: public data sets, what a server took in, and dead letters."""

import json
import shlex
import sys
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_options import FAILED, config_options, json_option, root_option

# Commands import what they need: TFX and TensorFlow take seconds.

table_option = click.option(
    "--table",
    type=click.Choice(["events", "items", "users"]),
    default="events",
    show_default=True,
    help="Whose dead letters.",
)


@click.group()
def data() -> None:
    """Fetch public data sets; write out what a server took in; mend dead letters."""


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


@data.command("export-events")
@root_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the files; default: <root>/events/log.",
)
@json_option
def export_events(root: Path, output: Path | None, as_json: bool) -> None:
    """Write what `tandem serve` showed and took in as files for ingestion.

    Each event is written once, whatever was written before; run it before `tandem run`.
    """
    from pipeline.layout import Layout
    from serving.event_store import export_events as write_out

    layout = Layout(root)
    if not layout.event_store.exists():
        raise click.UsageError(
            f"`{layout.event_store}` is not there: nothing was taken in yet. `tandem "
            f"serve --root {root}` takes in events at its HTTP API."
        )
    folder = output or layout.events / "log"
    files = write_out(layout.event_store, folder)
    if as_json:
        click.echo(json.dumps({"files": [str(file) for file in files]}))
        return
    for file in files:
        click.echo(f"Wrote {file}")
    click.echo(
        f"{len(files)} new file(s). Read them by `data.events.path: "
        f"{folder}/events-*.jsonl` in the config."
    )


@data.command("dead-letters")
@root_option
@table_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The JSON Lines file to write; without it, only the reasons are shown.",
)
@click.option("--all", "with_replayed", is_flag=True, help="Also those replayed.")
@json_option
def dead_letters(
    root: Path, table: str, output: Path | None, with_replayed: bool, as_json: bool
) -> None:
    """Export the dead letters of a root's latest ingestion, to be mended."""
    from pipeline.dead_letters import export_dead_letters
    from pipeline.display_dead_letters import show_export
    from pipeline.layout import Layout

    layout = Layout(root.resolve())
    try:
        name, counts = export_dead_letters(layout, table, output, with_replayed)
    except FileExistsError as error:
        raise click.BadParameter(
            f"{error}: it may be half mended. Give another name, or remove it.",
            param_hint="--output",
        ) from error
    if as_json:
        reasons = [
            {
                "rule": rule,
                "count": count,
                "file": counts.examples[rule][0],
                "position": counts.examples[rule][1],
            }
            for rule, count in counts.rules.most_common()
        ]
        written = str(output) if output and counts.exported else None
        click.echo(
            json.dumps(
                {
                    "config": name,
                    "table": table,
                    "dead_letters": counts.exported,
                    "unsplit": counts.unsplit,
                    "replayed": counts.replayed,
                    "reasons": reasons,
                    "output": written,
                }
            )
        )
        return
    show_export(
        Console(), counts, config_name=name, table=table, root=root, output=output
    )


@data.command("replay-dead-letters")
@config_options
@root_option
@table_option
@json_option
@click.argument(
    "mended",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=False,
)
def replay_dead_letters(
    config_path: str,
    overrides: tuple[str, ...],
    root: Path,
    table: str,
    as_json: bool,
    mended: Path | None,
) -> None:
    """Check mended dead letters, and keep those that pass for the next run.

    MENDED is a file of `tandem data dead-letters`, edited. Without it the stored ones are
    checked against the present config. Ends with 1 if any would be refused again.
    """
    from pipeline.config import load_config
    from pipeline.dead_letters import replay_into
    from pipeline.display_dead_letters import show_replay
    from pipeline.layout import Layout

    config = load_config(config_path, overrides)
    counts = replay_into(Layout(root.resolve()), config, table, mended)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "config": config.name,
                    "table": table,
                    "replayed": counts.replayed,
                    "known": counts.known,
                    "left": counts.left,
                    "unmended": counts.unmended,
                    "reasons": [
                        {"rule": rule, "count": count}
                        for rule, count in counts.rules.most_common()
                    ],
                    "output": str(counts.file) if counts.file else None,
                    "left_output": str(counts.left_file) if counts.left_file else None,
                }
            )
        )
    else:
        again = ["--config", config_path, "--root", str(root)]
        for override in overrides:
            again += ["--set", override]
        show_replay(Console(), counts, table=table, arguments=shlex.join(again))
    sys.exit(FAILED if counts.left else 0)

"""`tandem ope`: what other policies would have earned, by the log of one."""

import json
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_options import DEFAULT_ROOT, json_option

# Commands import what they need: TensorFlow takes seconds.


@click.command()
@click.option(
    "--config",
    "config_path",
    help="A YAML file, or the name of a shipped config: compares releases on the test "
    "split of its latest run.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY.PATH=VALUE",
    help="Override a config value, such as gates.policy.metric=ctr.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_ROOT,
    show_default=True,
    help="Folder of the runs and releases.",
)
@click.option(
    "--release",
    "versions",
    type=int,
    multiple=True,
    help="Version of a release; may be given several times. Default: all.",
)
@click.option(
    "--log",
    "log_path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="In place of --config: a table (.parquet, .csv) with a row for each showing: "
    "user_id, item_id, propensity, and label or reward; optionally event_id, position, "
    "request_id.",
)
@click.option(
    "--policies",
    "policy_paths",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="With --log: a table with a row for each choice: policy, item_id, propensity; "
    "with position or event_id, the chance there.",
)
@click.option(
    "--places",
    type=click.Choice(["independent", "cascade", "whole"]),
    default="independent",
    show_default=True,
    help="With --log: what a chance is of. independent: the item at its place; cascade: "
    "given the items above; whole: the same, and rewards depend on the whole slate.",
)
@click.option(
    "--neutral-label",
    type=float,
    default=0.0,
    show_default=True,
    help="With --log: the label of a showing without an answer; above it is a click, "
    "below it a mute.",
)
@click.option(
    "--plot",
    "plot_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PNG file to draw. Default with --config: <root>/report/policies.png.",
)
@json_option
def ope(
    config_path: str | None,
    overrides: tuple[str, ...],
    root: Path,
    versions: tuple[int, ...],
    log_path: Path | None,
    policy_paths: tuple[Path, ...],
    places: str,
    neutral_label: float,
    plot_path: Path | None,
    as_json: bool,
) -> None:
    """Compare policies on a log that has propensities, without serving them.

    Either releases on the test split of a config's latest run (--config), or policies
    given as tables on a log given as a table (--log and --policies).
    """
    if (config_path is None) == (log_path is None):
        raise click.UsageError("give either --config, or --log with --policies.")
    if bool(policy_paths) != (log_path is not None):
        raise click.UsageError("--log and --policies go together.")
    from pipeline.config import load_config

    console = Console(stderr=True)
    if config_path is not None:
        config = load_config(config_path, overrides)
        console.print("Loading TensorFlow ...", highlight=False)
        from pipeline.ope import compare_releases

        comparison = compare_releases(config, root, versions)
        plot_path = plot_path or root / "report" / "policies.png"
    else:
        from components.policy_gate_settings import PolicyGateSettings
        from pipeline.ope import compare_tables

        settings = PolicyGateSettings(places=places)
        comparison = compare_tables(log_path, policy_paths, neutral_label, settings)
    if plot_path is not None:
        _draw(comparison, plot_path)
        console.print(f"Drawn in {plot_path}", highlight=False)
    if as_json:
        figures = {**comparison.figures, "left_out": comparison.left_out}
        click.echo(json.dumps(figures))
        return
    from pipeline.display_policies import show_comparison

    show_comparison(Console(), comparison)


def _draw(comparison, path: Path) -> None:
    """Writes the chart of the compared metric."""
    from PIL import Image

    from components.policy_board import policy_chart

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(policy_chart(comparison.figures, comparison.metric)).save(path)

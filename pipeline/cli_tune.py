"""`tandem tune`: better settings for a model, searched within a budget."""

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
    "--trials", type=click.IntRange(min=1), help="In place of `tuning.trials`."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="In place of `tuning.minutes`.",
)
@json_option
def tune(
    config_path: str,
    overrides: tuple[str, ...],
    root: Path,
    trials: int | None,
    minutes: float | None,
    as_json: bool,
) -> None:
    """Search better settings for a model on the eval split; the test split stays unread.

    What is searched stands in the config under `tuning`. A search that was killed, or
    that ran out of its minutes, is gone on with by the same command.
    """
    from pipeline.config import ConfigError, load_config

    budget = {"tuning.trials": trials, "tuning.minutes": minutes}
    given = [f"{key}={value}" for key, value in budget.items() if value is not None]
    config = load_config(config_path, (*overrides, *given))
    if not config.tuning.space:
        raise ConfigError(
            "tuning.space: names nothing to search. Give it keys, such as "
            "`ranking.learning_rate: {min: 0.0001, max: 0.01, log: true}`."
        )
    console = Console(stderr=True)
    console.print("Loading TFX ...", highlight=False)
    from pipeline import display
    from pipeline.display_tuning import show_tuning, trial_line
    from pipeline.layout import Layout
    from pipeline.tune import next_command
    from pipeline.tune import tune as search

    progress = display.StageProgress(console)

    def on_trial(space, trial) -> None:
        progress.finish()
        line = trial_line(space, trial)
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    try:
        result = search(config, root, progress, on_trial)
    finally:
        progress.finish()
    if result.refused:
        display.show_refusals(console, result.refused, Layout(root))
        sys.exit(REFUSED)
    show_tuning(Console(stderr=as_json), result)
    if as_json:
        click.echo(json.dumps(result.as_json()))
    if result.overlay is not None:
        command = next_command(result, config_path, root)
        console.print(f"Next: {command}", highlight=False, soft_wrap=True)

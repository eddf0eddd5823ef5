"""`tandem simulate`: the closed loop with users whose tastes are known."""

import json
import sys
from pathlib import Path

import click
from rich.console import Console

from pipeline.cli_options import FAILED, REFUSED, json_option, root_option
from pipeline.simulation.settings import SimulationSettings

# Commands import what they need: TFX and TensorFlow take seconds.

_DEFAULT = SimulationSettings()


def _count(name: str, least: int, about: str):
    return click.option(
        f"--{name.replace('_', '-')}",
        type=click.IntRange(min=least),
        default=getattr(_DEFAULT, name),
        show_default=True,
        help=about,
    )


@click.command()
@click.option(
    "--config",
    "config_path",
    default="simulation",
    show_default=True,
    help="Path of a config, or the name of a shipped one.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Overrides one config key; repeatable.",
)
@root_option
@_count("rounds", 2, "Rounds of requests, the uniform policy's among them.")
@_count("first_requests", 1, "Requests that the uniform policy answers.")
@_count("requests", 1, "Requests of each later round.")
@_count("seed", 0, "Of the world, and of who comes when.")
@json_option
def simulate(
    config_path: str,
    overrides: tuple[str, ...],
    root: Path,
    rounds: int,
    first_requests: int,
    requests: int,
    seed: int,
    as_json: bool,
) -> None:
    """Serve, log, ingest, train, evaluate and push, round by round, in a known world.

    Simulated users ask `tandem serve` and click. What a policy is worth is known, so that
    regret, and off-policy evaluation beside the truth, are shown. ROOT must be new.
    """
    from pipeline.config import load_config
    from pipeline.layout import Layout

    config = load_config(config_path, overrides)
    console = Console(stderr=True)
    console.print("Loading TFX ...", highlight=False)
    from pipeline import display
    from pipeline.display_simulation import judgements_table, rounds_table
    from pipeline.simulation.board import write_board
    from pipeline.simulation.rounds import SimulationError
    from pipeline.simulation.rounds import simulate as run_rounds

    progress = display.StageProgress(console)
    settings = SimulationSettings(rounds, first_requests, requests, seed)

    def announce(ended) -> None:
        progress.finish()
        console.print(
            f"Round {ended.number} ({ended.policy}): {ended.clicks:,} clicks of "
            f"{ended.shown:,} items shown, regret {ended.regret:.4f} a place",
            highlight=False,
        )

    layout = Layout(root.resolve())
    try:
        found, result = run_rounds(config, root, settings, announce, progress)
    except FileExistsError as error:
        raise click.BadParameter(str(error), param_hint="--root") from error
    except SimulationError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(FAILED)
    finally:
        progress.finish()
    layout.simulation.write_text(found.model_dump_json(indent=2) + "\n")
    write_board(found, layout.simulation_board(config.name))
    if as_json:
        click.echo(json.dumps(found.model_dump()))
    else:
        Console().print(rounds_table(found))
        Console().print(judgements_table(found))
    console.print(f"Next: tandem tensorboard --root {root}", highlight=False)
    if result.refused:
        display.show_refusals(console, result.refused, layout)
        sys.exit(REFUSED)

"""Options and exit codes that the commands share."""

from collections.abc import Callable
from pathlib import Path

import click

FAILED, BAD_CONFIG, REFUSED = 1, 2, 3
DEFAULT_ROOT = Path(".tandem")


def root_option(function: Callable) -> Callable:
    """Adds --root."""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        default=DEFAULT_ROOT,
        show_default=True,
        help="Folder for data, artifacts, releases and reports.",
    )(function)


def json_option(function: Callable) -> Callable:
    """Adds --json."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
    )(function)


def config_options(function: Callable) -> Callable:
    """Adds --config and --set."""
    function = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY.PATH=VALUE",
        help="Override a config value; may be given several times. @FILE lays a YAML "
        "file of keys over the config.",
    )(function)
    return click.option(
        "--config",
        "config_path",
        required=True,
        help="A YAML file, or the name of a shipped config such as movielens-100k.",
    )(function)

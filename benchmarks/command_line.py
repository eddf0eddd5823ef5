"""The one command line of all benchmarks."""

import argparse
import json
import sys

from benchmarks.result import Result, text_table, write_result


def parsed_arguments(name: str, about: str | None) -> argparse.Namespace:
    """Returns `quick`, `json` and `seed` as given to `python -m benchmarks.<name>`."""
    return parser_of(name, about).parse_args()


def parser_of(name: str, about: str | None) -> argparse.ArgumentParser:
    """Returns what parses them, for a benchmark that has options of its own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="the same on less, in about a minute"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the data; default 0")
    return parser


def say(line: str) -> None:
    """Prints progress, beside the result."""
    print(line, file=sys.stderr, flush=True)


def finish(result: Result, arguments: argparse.Namespace) -> int:
    """Writes the result's file and prints it; returns the exit code."""
    path = write_result(result)
    say(f"wrote {path}")
    if arguments.json:
        print(json.dumps(result.model_dump()))
    else:
        print(text_table(result))
    return 0

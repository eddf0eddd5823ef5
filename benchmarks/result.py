"""What a benchmark found: one JSON file each, and the tables made of it."""

import importlib.metadata
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from benchmarks.targets import TARGETS, Target

RESULTS = Path(__file__).parent / "results"


class Result(BaseModel):
    """The figures of one run of one benchmark."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # least and greatest of the repeats
    versions: dict[str, str]
    data: dict[str, Any]
    seconds: float

    @model_validator(mode="after")
    def _intervals_hold_their_figures(self) -> "Result":
        for key, (low, high) in self.intervals.items():
            if key not in self.figures or not low <= self.figures[key] <= high:
                raise ValueError(
                    f"intervals: `{key}` should be an interval around a figure. "
                    f"Received: {low}..{high} around {self.figures.get(key)}"
                )
        return self


def write_result(result: Result, folder: Path = RESULTS) -> Path:
    """Writes `<name>.json`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.name}.json"
    path.write_text(json.dumps(result.model_dump(), indent=2) + "\n")
    return path


def read_result(name: str, folder: Path = RESULTS) -> Result:
    """Reads what `write_result` wrote."""
    return Result.model_validate_json((folder / f"{name}.json").read_text())


def medians(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Returns the median of each figure's repeats."""
    return {key: statistics.median(values) for key, values in found.items()}


def spreads(found: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Returns the least and the greatest of each figure that was measured again."""
    return {
        key: (min(values), max(values))
        for key, values in found.items()
        if len(values) > 1
    }


def versions_of(*packages: str) -> dict[str, str]:
    """Returns the versions of some installed packages."""
    return {name: importlib.metadata.version(name) for name in packages}


def rows(result: Result) -> list[tuple[str, str, str, str, str]]:
    """Returns (figure, value, interval, target, verdict) of each figure.

    Figures with a target come first, in the order of the targets.
    """
    targets = TARGETS.get(result.name, {})
    keys = [key for key in targets if key in result.figures]
    keys += [key for key in result.figures if key not in targets]
    return [_row(key, result, targets.get(key)) for key in keys]


def markdown_table(result: Result) -> str:
    """Returns the figures as a table of Markdown."""
    lines = ["| figure | measured | least to greatest | target | |", "|" + " --- |" * 5]
    lines += [f"| `{key}` | {' | '.join(rest)} |" for key, *rest in rows(result)]
    return "\n".join(lines) + "\n"


def text_table(result: Result) -> str:
    """Returns the figures as a table for a terminal."""
    header = ("figure", "measured", "least to greatest", "target", "")
    lines = [header, *rows(result)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _row(
    key: str, result: Result, target: Target | None
) -> tuple[str, str, str, str, str]:
    value = result.figures[key]
    interval = result.intervals.get(key)
    between = f"{_number(interval[0])} to {_number(interval[1])}" if interval else ""
    if target is None:
        return key, _number(value), between, "", ""
    verdict = "met" if target.is_met(value) else "missed"
    return key, _number(value), between, str(target), verdict


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"

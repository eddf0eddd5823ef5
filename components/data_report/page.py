"""Renders the page: one file of HTML, complete in itself, without a script.

Everything shown may come from a log. Jinja escapes what it is given; `visible` writes
out characters that would turn or hide text; and the page's own policy lets a browser
load and run nothing.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

import jinja2
import markupsafe

from components.comparison import Comparison
from components.data_report import charts
from components.data_report.tables import feature_tables
from components.feature_statistics import Statistics, num_rows
from components.gate import GateResult
from components.ingestion.summary import SpanCounts, Summary
from components.visible_text import visible

PAGE_FILE = "data.html"
_TEMPLATE = "page.html.jinja"
_SHOWN = 2000  # characters of a text
_OPEN_SPANS = 14  # a longer list of spans is folded


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What the page tells of.

    Attributes:
        name: of the pipeline.
        result: the gate's answer.
        summary: the account of the ingestion.
        statistics: of the labelled rows, by split.
        anomalies: what TFDV objects to, by split and feature ("" is the whole set).
        comparisons: drift and skew.
    """

    name: str
    result: GateResult
    summary: Summary
    statistics: Mapping[str, Statistics]
    anomalies: Mapping[str, Mapping[str, str]]
    comparisons: Sequence[Comparison] = ()


def render(report: DataReport) -> str:
    """Returns the page, as HTML that UTF-8 can hold."""
    numbers, values = feature_tables(report.statistics)
    checks = sorted(report.result.checks, key=lambda check: check.passed)
    return (
        environment()
        .get_template(_TEMPLATE)
        .render(
            name=report.name,
            result=report.result,
            checks=checks,
            num_failed=sum(not check.passed for check in checks),
            summary=report.summary,
            accounts=_accounts(report.summary),
            open_spans=_OPEN_SPANS,
            anomalies=[
                (split, feature, text)
                for split, found in report.anomalies.items()
                for feature, text in sorted(found.items())
            ],
            splits=list(report.anomalies),
            sampled=[
                f"{split} {seen:,} of {rows:,}"
                for split, seen, rows in _looked_at(report)
                if seen < rows
            ],
            comparisons=report.comparisons,
            numbers=numbers,
            values=values,
            chart=charts,
        )
    )


def _accounts(
    summary: Summary,
) -> list[tuple[str, SpanCounts, list[tuple[str, SpanCounts]]]]:
    """Returns each source and, where it has several, its spans, the newest first."""
    return [
        (table, source, list(reversed(source.spans.items())))
        for table, source in summary.sources.items()
    ]


def _looked_at(report: DataReport) -> list[tuple[str, int, int]]:
    """Returns of each split how many rows the statistics are of, and how many it has."""
    labelled = report.summary.rows["impressions"]
    return [
        (split, num_rows(statistics), labelled.get(split, 0))
        for split, statistics in report.statistics.items()
    ]


def environment() -> jinja2.Environment:
    """Returns what the pages of this package are rendered in."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("components.data_report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code_parts"] = _code_parts
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["percent"] = _percent
    environment.filters["moment"] = _moment
    return environment


def _shown(value: object) -> object:
    """Writes out what cannot be seen; the template's own markup stays as it is."""
    is_text = isinstance(value, str) and not isinstance(value, markupsafe.Markup)
    return visible(value, _SHOWN) if is_text else value


def _code_parts(text: str) -> list[tuple[bool, str]]:
    """Returns the parts of a text, and whether each stood between backticks."""
    return [(place % 2 == 1, part) for place, part in enumerate(text.split("`"))]


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.2%}" if whole else "none"


def _moment(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"

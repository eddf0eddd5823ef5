"""How well each span was foretold after training through the one before, and its cost.

`<root>/report/spans.json` holds the figures, `spans.html` beside it draws them, and
TensorBoard has them as scalars.
"""

import enum
import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from components.data_report.spans_page import Line, Point, render
from components.ingestion.spans import span_order
from pipeline.layout import Layout

_MODEL = "two_tower"
RECALLS = ("recall@10", "recall@100")


class Training(enum.Enum):
    """How the model of a span came to be."""

    CONTINUED = "continued"  # from the last blessed release of an earlier span
    FROM_SCRATCH = "from_scratch"


class SpanFigures(BaseModel):
    """What one run of one span came to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str  # its name
    span: str
    training: Training
    # Of a run that was to continue, but had nothing to continue from: the first of a
    # line that goes on continued.
    is_first: bool
    passed: bool  # whether the gates that the run reached let it pass
    events: int  # of the span, that were to be foretold
    recall: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    rows: int  # that training learnt from
    seconds: float
    cpu_seconds: float


def span_figures(
    config: str, span: str, from_scratch: bool, figures: dict
) -> SpanFigures | None:
    """Returns what a run of a span came to, None if it was refused before it was judged.

    Args:
        config: its name.
        span: the one that was tested on.
        from_scratch: whether the run was told to train anew.
        figures: of the run, as `report.collect_figures` returns them.
    """
    judged = figures.get("retrieval", {}).get(_MODEL)
    if judged is None:
        return None
    training = figures["training"]
    continued = training["continued_from"] is not None
    return SpanFigures(
        config=config,
        span=span,
        training=Training.FROM_SCRATCH if from_scratch else Training.CONTINUED,
        is_first=not from_scratch and not continued,
        passed=all(gate["passed"] for gate in figures["gates"].values()),
        events=figures["retrieval"]["test"]["events"],
        recall={name: judged[name] for name in RECALLS},
        intervals={name: judged[f"{name}_interval"] for name in RECALLS},
        rows=training["rows"],
        seconds=training["seconds"],
        cpu_seconds=training["cpu_seconds"],
    )


def read_spans(path: Path, config: str) -> list[SpanFigures]:
    """Returns the figures of a config's spans so far, oldest first."""
    if not path.is_file():
        return []
    found = [
        SpanFigures.model_validate(entry) for entry in json.loads(path.read_text())
    ]
    return [entry for entry in found if entry.config == config]


def record_span(layout: Layout, new: SpanFigures) -> list[SpanFigures]:
    """Adds a run to the report, in the place of an earlier one of the same kind.

    Returns:
        all of the config's, by span and training.
    """
    path = layout.spans
    known = json.loads(path.read_text()) if path.is_file() else []
    entries = [SpanFigures.model_validate(entry) for entry in known]
    entries = [entry for entry in entries if _key(entry) != _key(new)] + [new]
    entries.sort(key=_key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps([entry.model_dump(mode="json") for entry in entries], indent=1)
        + "\n"
    )
    of_config = [entry for entry in entries if entry.config == new.config]
    layout.spans_page.write_text(render(new.config, lines_of(of_config)))
    _write_scalars(layout, of_config)
    return of_config


def lines_of(entries: Iterable[SpanFigures]) -> list[Line]:
    """Returns what is drawn: a line for each way of training that was run.

    Where nothing was there to continue from, both ways are the same run.
    """
    entries = list(entries)
    lines = []
    for training in Training:
        of_line = [
            entry for entry in entries if entry.training is training or entry.is_first
        ]
        if any(entry.training is training for entry in entries):
            points = [
                Point(
                    span=entry.span,
                    passed=entry.passed,
                    events=entry.events,
                    recall=entry.recall,
                    intervals=entry.intervals,
                    rows=entry.rows,
                    seconds=entry.seconds,
                    cpu_seconds=entry.cpu_seconds,
                )
                for entry in _one_a_span(of_line, training)
            ]
            lines.append(Line(training.value, points))
    return lines


def _one_a_span(
    entries: Iterable[SpanFigures], training: Training
) -> list[SpanFigures]:
    """Returns one run of each span, rather the one that trained as asked."""
    chosen: dict[str, SpanFigures] = {}
    for entry in entries:
        if entry.span not in chosen or entry.training is training:
            chosen[entry.span] = entry
    return sorted(chosen.values(), key=_key)


def _key(entry: SpanFigures) -> tuple:
    return entry.config, span_order(entry.span), entry.training.value


def _write_scalars(layout: Layout, entries: list[SpanFigures]) -> None:
    """Writes the lines afresh as TensorBoard runs; a span's step is its place."""
    import tensorflow as tf

    spans = list(dict.fromkeys(entry.span for entry in entries))
    for line in lines_of(entries):
        folder = layout.pipeline / "spans" / entries[0].config / line.name
        if folder.is_dir():
            for file in folder.glob("events.out.tfevents.*"):
                file.unlink()
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default():
            for point in line.points:
                step = spans.index(point.span)
                for name, value in point.recall.items():
                    tf.summary.scalar(f"spans/{name}", value, step=step)
                tf.summary.scalar("spans/cpu_seconds", point.cpu_seconds, step=step)
        writer.close()

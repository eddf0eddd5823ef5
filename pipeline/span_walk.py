"""Runs the spans of a log, oldest to newest, continued and from scratch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from components.ingestion.errors import IngestionError
from components.ingestion.settings import SpanSettings
from components.ingestion.sources import event_spans
from components.ingestion.spans import span_order
from pipeline.config import TandemConfig
from pipeline.layout import Layout
from pipeline.local_runner import (
    RunResult,
    SpanRun,
    StageStarted,
    run_pipeline,
    with_absolute_paths,
)
from pipeline.span_report import SpanFigures, record_span, span_figures

SpanStarted = Callable[[SpanRun], None]
_JUDGED_BY = "EvaluateRetrieval"  # what a run that is not to be pushed ends with


def spans_to_walk(
    config: TandemConfig, root: Path, first: str | None, last: str | None
) -> list[str]:
    """Returns the spans of the log that have one before, within bounds, oldest first.

    Args:
        config: of the log; what its `data.spans` says of `until` is left out.
        root: where relative paths start.
        first, last: the bounds, both included; None is the end of the log.

    Raises:
        IngestionError: if there is no such span.
    """
    data = with_absolute_paths(config, root.resolve()).data
    everything = SpanSettings(allow_gaps=data.spans.allow_gaps)
    known = event_spans(data.model_copy(update={"spans": everything}))
    spans = [
        span
        for span in known[1:]
        if (first is None or span_order(span) >= span_order(first))
        and (last is None or span_order(span) <= span_order(last))
    ]
    if known == [""]:
        raise IngestionError(
            f"data.events.path: `{data.events.path}` names no spans to walk. Write the "
            "span into it, such as `events-{YYYY-MM-DD}.jsonl` or `span-{SPAN}/*`."
        )
    if not spans:
        raise IngestionError(
            f"no span to walk from {first or 'the second'} to {last or 'the last'}: "
            f"{data.events.path} has the spans {known}, and the first has none before "
            "it to learn from."
        )
    return spans


def run_span(
    config: TandemConfig,
    root: Path,
    span_run: SpanRun,
    on_stage: StageStarted,
) -> tuple[RunResult, SpanFigures | None]:
    """Runs a span and adds it to the report of the spans."""
    result = run_pipeline(config, root, on_stage, span_run)
    figures = span_figures(
        config.name, result.span, span_run.from_scratch, result.figures
    )
    if figures is not None:
        record_span(Layout(root.resolve()), figures)
    return result, figures


def walk_spans(
    config: TandemConfig,
    root: Path,
    spans: Sequence[str],
    on_span: SpanStarted,
    on_stage: StageStarted,
) -> RunResult:
    """Runs spans as if each had just come, and beside each a training from scratch.

    The continued run is the whole pipeline, whose release the next span continues. The
    one from scratch ends with the gate that judges retrieval and pushes nothing; it comes
    first, so that both are compared with the same last release. A span that had nothing
    to continue from is not run twice.

    Args:
        config: with which values.
        root: as of `run_pipeline`.
        spans: which, oldest first; not empty.
        on_span: called before each run.
        on_stage: called with each stage's name.

    Returns:
        what the last continued run came to.
    """

    def run(span: str, **how) -> tuple[RunResult, SpanFigures | None]:
        span_run = SpanRun(span, **how)
        on_span(span_run)
        return run_span(config, root, span_run, on_stage)

    from_scratch = {"from_scratch": True, "until": _JUDGED_BY}
    has_release = False
    for span in spans:
        if has_release:
            run(span, **from_scratch)
        result, figures = run(span)
        if not has_release and figures is not None and not figures.is_first:
            run(span, **from_scratch)  # the root had a release before the walk
        has_release = has_release or result.release is not None
    return result

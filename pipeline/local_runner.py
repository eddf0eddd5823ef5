"""Where it runs: on this machine, under TFX's LocalDagRunner with SQLite ML Metadata."""

import dataclasses
import datetime
import hashlib
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

from tfx import v1 as tfx
from tfx.dsl.compiler import constants
from tfx.orchestration.portable import runtime_parameter_utils

from components.beam_data_plane import send_whole_buffers
from components.candidate_selection import candidates_fingerprint
from components.gate import GateResult
from components.ingestion.sources import event_spans, input_fingerprint
from components.roll_back import origin_of
from components.serving_examples import serving_fingerprint
from pipeline.config import TandemConfig
from pipeline.last_release import LastReleaseStrategy
from pipeline.layout import Layout
from pipeline.library_log import library_log
from pipeline.pipeline import create_pipeline
from pipeline.policy_history import judged_policy, record_policy
from pipeline.report import collect_figures, copy_data_report, read_gates
from pipeline.root_config import with_absolute_paths, with_replayed
from pipeline.run_state import StageRun, read_run
from pipeline.surroundings import Surroundings
from serving.release_layout import list_releases

StageStarted = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What a run came to.

    Attributes:
        stages: those that ran or were cached, in order.
        refused: the gates that stopped the line.
        figures: as in `report/metrics.json`.
        release: version of the release that the run's inputs lead to, None if refused.
        span: that the models were tested on, "" where the log was split by shares.
    """

    stages: dict[str, StageRun]
    refused: list[GateResult]
    figures: dict
    release: int | None
    span: str = ""


@dataclasses.dataclass(frozen=True)
class SpanRun:
    """One span of a log, run for its own sake.

    Attributes:
        span: the one to test on; what is before it is learnt from.
        from_scratch: whether training begins anew, not where the last release ended.
        until: the stage that the run ends with, None for all. A run that ends early
            leaves the root's report as it is.
    """

    span: str
    from_scratch: bool = False
    until: str | None = None


def run_pipeline(
    config: TandemConfig,
    root: Path,
    on_stage: StageStarted = lambda stage: None,
    span_run: SpanRun | None = None,
    until: str | None = None,
) -> RunResult:
    """Runs the pipeline; stages whose inputs did not change come from the cache.

    A run that was killed continues from what was done when it is started again.

    Args:
        config: with which values; relative paths in it start at `root`.
        root: receives artifacts, metadata, releases, the report and `run.log`.
        on_stage: called with the name of each stage as it starts.
        span_run: tests on one span and learns from those before; None splits the log by
            shares.
        until: as of `SpanRun`, of a run that splits the log by shares.

    Raises:
        ConfigError: if the curated schema is missing.
        IngestionError: if the log, the deny list, or what was served where skew is
            measured, is missing, empty or unreadable as a whole.
    """
    started = time.monotonic()
    layout = Layout(root.resolve())
    layout.root.mkdir(parents=True, exist_ok=True)
    config = with_replayed(with_absolute_paths(config, layout.root), layout)
    if span_run is not None:
        config = tested_on(config, span_run.span)
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(
        str(layout.metadata)
    )
    span = "" if span_run is None else event_spans(config.data)[-1]
    run_id = datetime.datetime.now(datetime.UTC).isoformat()
    releases = list_releases(layout.serving)
    pipeline = create_pipeline(
        config,
        Surroundings(
            pipeline_root=str(layout.pipeline),
            serving_root=str(layout.serving),
            schema_file=str(_place_schema(config, layout)),
            input_fingerprint=input_fingerprint(config.data),
            serving_fingerprint=serving_fingerprint(config.gates.data),
            candidates_fingerprint=candidates_fingerprint(config.candidates),
            # Where the serving folder was emptied, no cached push will do.
            newest_release=str(releases[-1]) if releases else f"none at {run_id}",
            metadata_connection_config=connection,
            last_release_strategy=LastReleaseStrategy,
            incumbent=origin_of(layout.serving, releases[-1]) if releases else 0,
            checkpoints=str(layout.checkpoints),
            span=span,
            continues=span_run is not None and not span_run.from_scratch,
        ),
    )
    send_whole_buffers()
    until = until if span_run is None else span_run.until
    with library_log(layout.log):
        _Runner(run_id, on_stage, until).run(pipeline)
    stages = read_run(str(layout.metadata), run_id)
    figures = collect_figures(stages, config.ranking.model.value)
    figures["run"] = {
        "seconds": round(time.monotonic() - started, 1),
        "peak_memory_gib": peak_memory_gib(),
        "stages": {name: stage.state.value for name, stage in stages.items()},
    }
    if until is None:
        _write_report(layout, config, stages, figures)
    refused = [gate for gate in read_gates(stages) if not gate.passed]
    return RunResult(stages, refused, figures, figures.get("release"), span)


def _write_report(
    layout: Layout, config: TandemConfig, stages: dict[str, StageRun], figures: dict
) -> None:
    """Writes what a whole run came to into the root's report."""
    layout.report.parent.mkdir(parents=True, exist_ok=True)
    layout.report.write_text(json.dumps(figures, indent=2) + "\n")
    judged = judged_policy(config.name, figures)
    if judged is not None:
        record_policy(layout, judged)
    copy_data_report(stages, layout.data_report)
    (layout.report.parent / "config.json").write_text(config.model_dump_json(indent=2))


def tested_on(config: TandemConfig, span: str) -> TandemConfig:
    """Returns the config that reads a log up to a span, which is its test split."""
    spans = config.data.spans.model_copy(update={"until": span})
    split = config.data.split.model_copy(update={"newest_span": True})
    data = config.data.model_copy(update={"spans": spans, "split": split})
    return config.model_copy(update={"data": data})


def peak_memory_gib() -> float:
    """Returns the largest resident size of this process or of a child so far."""
    sizes = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return round(max(sizes) / 2**20, 2)


def _place_schema(config: TandemConfig, layout: Layout) -> Path:
    """Copies the curated schema to a path that names its content.

    TFX caches the import by path, so an edited schema needs another one.
    """
    content = config.schema_path().read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = layout.root / "schema" / digest / "schema.pbtxt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class _Runner(tfx.orchestration.LocalDagRunner):
    """LocalDagRunner, one stage at a time, so that each can be announced.

    LocalDagRunner runs the stages in the order they stand, and knows of others only
    through ML Metadata and the run's id: giving it a stage at a time, under one id, is
    the same run.
    """

    def __init__(
        self, run_id: str, on_stage: StageStarted, until: str | None = None
    ) -> None:
        super().__init__()
        self._run_id = run_id
        self._on_stage = on_stage
        self._until = until

    def run_with_ir(self, pipeline, run_options=None) -> None:
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: self._run_id}
        )
        for node in _leading_to(self._until, pipeline.nodes):
            self._on_stage(node.pipeline_node.node_info.id)
            single = type(pipeline)()
            single.CopyFrom(pipeline)
            del single.nodes[:]
            single.nodes.append(node)
            super().run_with_ir(single, run_options)


def _leading_to(stage: str | None, nodes) -> list:
    """Returns the nodes that a stage waits for, and itself; all where it is None."""
    if stage is None:
        return list(nodes)
    by_id = {node.pipeline_node.node_info.id: node for node in nodes}
    wanted, found = [stage], set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            wanted += by_id[name].pipeline_node.upstream_nodes
    return [node for name, node in by_id.items() if name in found]

"""What did a run do? Read back from ML Metadata."""

import dataclasses
import enum

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

_OUTPUT_EVENTS = (
    metadata_store_pb2.Event.OUTPUT,
    metadata_store_pb2.Event.DECLARED_OUTPUT,
    metadata_store_pb2.Event.INTERNAL_OUTPUT,
)


class StageState(enum.Enum):
    """How a stage of a run ended."""

    DONE = "done"
    CACHED = "cached"  # its inputs had not changed: an earlier result was used


_STATES = {
    metadata_store_pb2.Execution.COMPLETE: StageState.DONE,
    metadata_store_pb2.Execution.CACHED: StageState.CACHED,
}


@dataclasses.dataclass(frozen=True)
class StageRun:
    """One stage of a run.

    Attributes:
        state: how it ended.
        outputs: folder of each output artifact by its key.
        properties: custom properties of each output artifact by its key.
    """

    state: StageState
    outputs: dict[str, str]
    properties: dict[str, dict[str, int | str]]


@dataclasses.dataclass(frozen=True)
class LatestStage:
    """The latest run of one stage.

    Attributes:
        pipeline: whose stage it is.
        parameters: the text ones, by name.
        run: what it came to.
    """

    pipeline: str
    parameters: dict[str, str]
    run: StageRun


def read_run(metadata_file: str, run_id: str) -> dict[str, StageRun]:
    """Returns the stages that a run executed or took from the cache.

    A stage behind a gate that refused is not among them: for want of its inputs, TFX
    notes such a stage as not executed, or as failed.

    Args:
        metadata_file: ML Metadata's SQLite file.
        run_id: of the run.

    Returns:
        stages by id, in the order they ran.
    """
    store = _open(metadata_file)
    run = store.get_context_by_type_and_name("pipeline_run", run_id)
    if run is None:
        return {}
    executions = store.get_executions_by_context(run.id)
    return {
        _stage_id(store, execution): _read_stage(store, execution)
        for execution in sorted(executions, key=lambda execution: execution.id)
        if execution.last_known_state in _STATES
    }


def read_latest(
    metadata_file: str, stage: str, pipeline: str | None = None
) -> LatestStage | None:
    """Returns the latest run of a stage that has results, None if there is none.

    Args:
        metadata_file: ML Metadata's SQLite file.
        stage: its id.
        pipeline: name of the pipeline; None looks at all.
    """
    store = _open(metadata_file)
    found = []
    for node in store.get_contexts_by_type("node"):
        name, _, stage_id = node.name.partition(".")  # "<pipeline>.<stage>"
        if stage_id == stage and pipeline in (None, name):
            found += [(e.id, name, e) for e in store.get_executions_by_context(node.id)]
    done = [entry for entry in found if entry[2].last_known_state in _STATES]
    if not done:
        return None
    _, name, execution = max(done, key=lambda entry: entry[0])
    parameters = {
        key: value.string_value for key, value in execution.custom_properties.items()
    }
    return LatestStage(name, parameters, _read_stage(store, execution))


def _open(metadata_file: str) -> metadata_store.MetadataStore:
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = metadata_file
    config.sqlite.connection_mode = (
        metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    )
    return metadata_store.MetadataStore(config)


def _stage_id(store: metadata_store.MetadataStore, execution) -> str:
    contexts = store.get_contexts_by_execution(execution.id)
    node = next(context for context in contexts if context.type == "node")
    return node.name.split(".", 1)[1]  # "<pipeline>.<stage>"


def _read_stage(store: metadata_store.MetadataStore, execution) -> StageRun:
    events = [
        event
        for event in store.get_events_by_execution_ids([execution.id])
        if event.type in _OUTPUT_EVENTS
    ]
    artifacts = {
        artifact.id: artifact
        for artifact in store.get_artifacts_by_id(
            [event.artifact_id for event in events]
        )
    }
    outputs, properties = {}, {}
    for event in events:
        key = event.path.steps[0].key
        artifact = artifacts[event.artifact_id]
        outputs[key] = artifact.uri
        properties[key] = {
            name: value.int_value if value.HasField("int_value") else value.string_value
            for name, value in artifact.custom_properties.items()
        }
    return StageRun(_STATES[execution.last_known_state], outputs, properties)

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
    config = metadata_store_pb2.ConnectionConfig()
    config.sqlite.filename_uri = metadata_file
    config.sqlite.connection_mode = (
        metadata_store_pb2.SqliteMetadataSourceConfig.READONLY
    )
    store = metadata_store.MetadataStore(config)
    run = store.get_context_by_type_and_name("pipeline_run", run_id)
    if run is None:
        return {}
    executions = store.get_executions_by_context(run.id)
    return {
        _stage_id(store, execution): _read_stage(store, execution)
        for execution in sorted(executions, key=lambda execution: execution.id)
        if execution.last_known_state in _STATES
    }


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

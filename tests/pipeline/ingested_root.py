"""A root folder as `tandem run` leaves it behind its first stage."""

from pathlib import Path

import yaml
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2

from pipeline.config import TandemConfig, load_config
from pipeline.layout import Layout
from pipeline.local_runner import with_absolute_paths, with_replayed
from tests.components.stored_letters import store

EVENT_TYPES = {
    "impression": {"reward": 0.5, "positive": False, "label": 0.0},
    "click": {"reward": 1.0, "positive": True, "label": 1.0},
}


def write_config(folder: Path, name: str = "shop", **data) -> Path:
    """Writes a config over `<root>/log/events*.jsonl`."""
    values = {
        "name": name,
        "data": {"events": {"path": "log/events*.jsonl"}, "event_types": EVENT_TYPES}
        | data,
        "features": {},
        "schema_file": "none.pbtxt",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def write_log(root: Path, lines: list[str], name: str = "events.jsonl") -> None:
    folder = root / "log"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(line + "\n" for line in lines))


def effective(config_path: Path, root: Path) -> TandemConfig:
    """Returns the config as `tandem run` hands it to the pipeline."""
    config = with_absolute_paths(load_config(config_path), root)
    return with_replayed(config, Layout(root))


def ingest(root: Path, config_path: Path, complete: bool = True) -> dict[str, list]:
    """Stores a root's dead letters and notes the stage; returns the accepted rows."""
    config = effective(config_path, root)
    layout = Layout(root)
    connection = metadata_store_pb2.ConnectionConfig()
    connection.sqlite.filename_uri = str(layout.metadata)
    connected = metadata_store.MetadataStore(connection)
    number = len(connected.get_executions()) + 1
    folder = layout.pipeline / "IngestEvents" / "dead_letters" / str(number)
    accepted = store(config.data, config.features, folder)
    _note(connected, config, folder, complete)
    return accepted


def _note(connected, config: TandemConfig, folder: Path, complete: bool) -> None:
    types = metadata_store_pb2
    execution = types.Execution(
        type_id=connected.put_execution_type(types.ExecutionType(name="IngestEvents")),
        last_known_state=types.Execution.COMPLETE
        if complete
        else types.Execution.FAILED,
    )
    parameters = {
        "settings_json": config.data.model_dump_json(),
        "catalog_json": config.features.model_dump_json(),
    }
    for key, value in parameters.items():
        execution.custom_properties[key].string_value = value
    artifact = types.Artifact(
        type_id=connected.put_artifact_type(types.ArtifactType(name="DeadLetters")),
        uri=str(folder),
    )
    event = types.Event(type=types.Event.OUTPUT)
    event.path.steps.add().key = "dead_letters"
    event.path.steps.add().index = 0
    node = types.Context(
        type_id=connected.put_context_type(types.ContextType(name="node")),
        name=f"{config.name}.IngestEvents",
    )
    known = connected.get_context_by_type_and_name("node", node.name)
    connected.put_execution(
        execution, [(artifact, event)], [node if known is None else known]
    )

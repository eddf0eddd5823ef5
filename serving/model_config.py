"""Which models a server serves, and which of their versions: models.config."""

import dataclasses
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ServerStartError

MODELS_CONFIG = "models.config"


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Which share of a model's calls is logged where; see `request_log`."""

    rate: float  # in [0, 1]
    filename_prefix: str  # of the files


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """One entry of models.config."""

    name: str
    base_path: Path  # holds one folder per version
    num_latest: int = 1  # how many of the newest versions; 0 means all
    specific: tuple[int, ...] = ()  # exactly these versions, if any is given
    labels: tuple[tuple[str, int], ...] = ()  # (label, version)
    sampling: Sampling | None = None  # which calls are logged

    def versions_on_disk(self) -> list[int]:
        """Returns the versions that can be loaded, oldest first."""
        if not self.base_path.is_dir():
            return []
        return sorted(
            int(folder.name)
            for folder in self.base_path.iterdir()
            if folder.name.isascii()
            and folder.name.isdigit()
            and (folder / "saved_model.pb").is_file()
        )

    def aspired_versions(self) -> list[int]:
        """Returns the versions the policy asks for, newest first."""
        versions = self.versions_on_disk()
        if self.specific:
            versions = [version for version in versions if version in self.specific]
        elif self.num_latest:
            versions = versions[-self.num_latest :]
        return versions[::-1]


def read_served_models(root: Path) -> list[ServedModel]:
    """Reads what a serving root serves.

    Args:
        root: a folder in TF Serving's layout. With a `models.config` in it, that file
            decides; without, each folder with a numbered SavedModel is a model.

    Returns:
        The models, at least one.

    Raises:
        ServerStartError: if there is no model or the file cannot be understood.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise ServerStartError(
            f"the serving root should be a folder. Received: `{root}`, which is none; "
            "`tandem run` pushes a release to <root>/serving"
        )
    config_file = root / MODELS_CONFIG
    if config_file.exists():
        return _from_config(config_file)
    models = [
        model
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
        if (model := ServedModel(folder.name, folder)).versions_on_disk()
    ]
    if not models:
        raise ServerStartError(
            f"`{root}` should hold {MODELS_CONFIG} or <model>/<version>/saved_model.pb."
            " It holds neither; push a release with `tandem run` first"
        )
    return models


def _from_config(path: Path) -> list[ServedModel]:
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(), config)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ServerStartError(
            f"`{path}` is not a ModelServerConfig: {error}"
        ) from error
    if not config.model_config_list.config:
        raise ServerStartError(
            f"`{path}` should name a model in model_config_list. It names none"
        )
    return served_models(config, path)


def served_models(
    config: model_server_config_pb2.ModelServerConfig, path: Path
) -> list[ServedModel]:
    """Returns what a config asks for.

    Args:
        config: its entries may be none.
        path: the file that it stands in, or would; relative base paths start beside it.

    Raises:
        ServerStartError: if it cannot be served.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise ServerStartError(
            f"`{path}` should hold a model_config_list. Received: a custom_model_config"
        )
    entries = config.model_config_list.config
    names = [entry.name for entry in entries]
    if "" in names or len(set(names)) < len(names):
        raise ServerStartError(
            f"`{path}` should give each model a name of its own. Received: {names}"
        )
    return [_served_model(entry, path) for entry in entries]


def _served_model(
    entry: model_server_config_pb2.ModelConfig, path: Path
) -> ServedModel:
    if entry.model_platform not in ("", "tensorflow"):
        raise ServerStartError(
            f"`{path}`: model_platform of {entry.name} should be `tensorflow`. "
            f"Received: `{entry.model_platform}`"
        )
    policy = entry.model_version_policy
    num_latest, specific = 1, ()
    match policy.WhichOneof("policy_choice"):
        case "latest":
            num_latest = policy.latest.num_versions or 1
        case "all":
            num_latest = 0
        case "specific":
            specific = tuple(policy.specific.versions)
    return ServedModel(
        name=entry.name,
        base_path=_base_path(entry, path),
        num_latest=num_latest,
        specific=specific,
        labels=tuple(sorted(entry.version_labels.items())),
        sampling=_sampling(entry, path),
    )


def _sampling(
    entry: model_server_config_pb2.ModelConfig, path: Path
) -> Sampling | None:
    rate = entry.logging_config.sampling_config.sampling_rate
    collector = entry.logging_config.log_collector_config
    if not 0 <= rate <= 1:
        raise ServerStartError(
            f"`{path}`: sampling_rate of {entry.name} should be in [0, 1]. Received: {rate}"
        )
    if not rate:
        return None
    if collector.type != "tfrecord" or not collector.filename_prefix:
        raise ServerStartError(
            f"`{path}`: log_collector_config of {entry.name} should have the type "
            f"`tfrecord` and a filename_prefix. Received: `{collector.type}`, "
            f"`{collector.filename_prefix}`"
        )
    return Sampling(rate, str(path.parent / collector.filename_prefix))


def _base_path(entry: model_server_config_pb2.ModelConfig, path: Path) -> Path:
    """Returns where the model's versions are on this machine.

    A config written for a container names the path inside it; there the model's folder
    beside the config is meant, if there is one.
    """
    base_path = path.parent / entry.base_path
    beside = path.parent / entry.name
    return beside if not base_path.is_dir() and beside.is_dir() else base_path

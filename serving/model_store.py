"""The versions a server holds: loaded, warmed up, swapped without a gap, freed.

A new version is published only when it is loaded and warm, and the old one is freed
only when the last request that holds it has ended, so that no request meets a gap.
"""

import contextlib
import ctypes
import dataclasses
import enum
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tensorflow_serving.apis import model_pb2

from serving.errors import (
    ModelLoadError,
    RequestError,
    invalid_argument,
    not_found,
)
from serving.model_config import ServedModel
from serving.prediction_service import predict
from serving.saved_model import SavedModel
from serving.warmup import read_warmup

_LOG = logging.getLogger(__name__)


class VersionState(enum.Enum):
    """Life of a version, with TF Serving's numbers for each state."""

    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class _Version:
    """One version of one model; its fields change under the store's lock only."""

    model_name: str
    number: int
    state: VersionState = VersionState.LOADING
    error: str = ""  # why it could not be loaded
    saved_model: SavedModel | None = None
    num_requests: int = 0  # in flight


class ModelStore:
    """Loads the versions a serving root asks for and lends them to requests.

    `refresh` brings the store in line with the file system; the caller decides how
    often. One thread may refresh while any number of threads `lend`.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        on_load: Callable[[str, bool], None] = lambda path, is_loaded: None,
    ):
        """Loads nothing yet.

        Args:
            models: what to serve, as `read_served_models` found it.
            on_load: is told of each attempt: folder of the version, whether it loaded.
        """
        self._on_load = on_load
        self._models = {model.name: model for model in models}
        self._versions: dict[str, dict[int, _Version]] = {
            name: {} for name in self._models
        }
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._refreshing = threading.Lock()

    def refresh(self) -> None:
        """Loads what is new on disk, then drops what is no longer asked for.

        A version that fails to load ends in state END with its reason, and what was
        served before stays; it is tried again only after it has left the disk.
        """
        with self._refreshing:
            before = self.available_versions()
            for model in self._models.values():
                self._refresh_model(model)
            if self.available_versions() != before:
                _give_back_memory()

    def serve(self, models: Sequence[ServedModel]) -> None:
        """Serves these models from now on; returns when their versions are loaded.

        A model that is no longer among them is freed after its last request. One that
        is keeps its loaded versions, unless its files lie elsewhere now.
        """
        with self._refreshing:
            wanted = {model.name: model for model in models}
            for name, model in self._models.items():
                moved = name in wanted and wanted[name].base_path != model.base_path
                if name not in wanted or moved:
                    for version in list(self._versions[name].values()):
                        self._unload(version)
            with self._lock:
                self._models = wanted
                self._versions = {name: self._versions.get(name, {}) for name in wanted}
            for model in wanted.values():
                self._refresh_model(model)

    def close(self) -> None:
        """Frees every version, each after its last request."""
        with self._refreshing:
            for versions in self._versions.values():
                for version in list(versions.values()):
                    self._unload(version)

    @contextlib.contextmanager
    def lend(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[SavedModel, int]]:
        """Lends the version a request means, for as long as the context lasts.

        Args:
            spec: name, and optionally a version or a version label.

        Yields:
            The loaded model and its version number.

        Raises:
            RequestError: NOT_FOUND if it is not served.
        """
        with self._lock:
            version = self._find(spec)
            saved_model = version.saved_model
            assert saved_model is not None, "an available version is loaded"
            version.num_requests += 1
        try:
            yield saved_model, version.number
        finally:
            with self._lock:
                version.num_requests -= 1
                if not version.num_requests:
                    self._idle.notify_all()

    def states(self, name: str) -> list[tuple[int, VersionState, str]]:
        """Returns (version, state, error) of each version, newest first."""
        with self._lock:
            versions = self._versions.get(name, {})
            return [
                (number, versions[number].state, versions[number].error)
                for number in sorted(versions, reverse=True)
            ]

    def served_model(self, name: str) -> ServedModel | None:
        """Returns the config of a model; None where it is not served."""
        return self._models.get(name)

    def available_versions(self) -> dict[str, list[int]]:
        """Returns the versions that answer now, newest first, by model name."""
        return {
            name: [
                number
                for number, state, _ in self.states(name)
                if state is VersionState.AVAILABLE
            ]
            for name in list(self._models)
        }

    def load_errors(self) -> dict[str, str]:
        """Returns why the newest failed version of a model failed, by model name."""
        errors = {}
        for name in list(self._models):
            reasons = [error for _, _, error in self.states(name) if error]
            if reasons:
                errors[name] = reasons[0]
        return errors

    def _find(self, spec: model_pb2.ModelSpec) -> _Version:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        available = {
            number: version
            for number, version in self._versions.get(spec.name, {}).items()
            if version.state is VersionState.AVAILABLE
        }
        match spec.WhichOneof("version_choice"):
            case "version":
                wanted = spec.version.value
                request = f"Specific({spec.name}, {wanted})"
            case "version_label":
                wanted = self._labelled(spec)
                request = f"Specific({spec.name}, {wanted})"
            case _:
                wanted = max(available, default=-1)
                request = f"Latest({spec.name})"
        if wanted in available:
            return available[wanted]
        raise not_found(f"Servable not found for request: {request}{self._why(spec)}")

    def _labelled(self, spec: model_pb2.ModelSpec) -> int:
        model = self._models.get(spec.name)
        labels = dict(model.labels) if model else {}
        if spec.version_label not in labels:
            raise invalid_argument(
                f"Unrecognized servable version label: {spec.version_label}"
            )
        return labels[spec.version_label]

    def _why(self, spec: model_pb2.ModelSpec) -> str:
        errors = [
            v.error for v in self._versions.get(spec.name, {}).values() if v.error
        ]
        return f". A version failed to load: {errors[-1]}" if errors else ""

    def _refresh_model(self, model: ServedModel) -> None:
        aspired = model.aspired_versions()
        versions = self._versions[model.name]
        for number in aspired:
            if number not in versions:
                self._load(model, number)
        for number in [n for n, v in versions.items() if v.state is VersionState.END]:
            if number not in aspired:
                self._unload(versions[number])
        loaded = [n for n in aspired if versions[n].state is VersionState.AVAILABLE]
        if not loaded:
            # Nothing to take over: an emptied disk or a broken release must not take
            # down what is served.
            return
        for number in list(versions):
            if number not in aspired:
                self._unload(versions[number])

    def _load(self, model: ServedModel, number: int) -> None:
        version = _Version(model.name, number)
        with self._lock:
            self._versions[model.name][number] = version
        folder = model.base_path / str(number)
        try:
            saved_model = load_warm(folder, number)
        except ModelLoadError as error:
            self._on_load(str(folder), False)
            _LOG.error("%s version %d: %s", model.name, number, error)
            with self._lock:
                version.state, version.error = VersionState.END, str(error)
            return
        self._on_load(str(folder), True)
        with self._lock:
            version.saved_model = saved_model
            version.state = VersionState.AVAILABLE
        _LOG.info("%s version %d is available", model.name, number)

    def _unload(self, version: _Version) -> None:
        with self._lock:
            version.state = VersionState.UNLOADING
            while version.num_requests:
                self._idle.wait()
            del self._versions[version.model_name][version.number]
            saved_model, version.saved_model = version.saved_model, None
        if saved_model is not None:
            saved_model.close()
            _LOG.info("%s version %d is dropped", version.model_name, version.number)


def _give_back_memory() -> None:
    """Returns to the system what freed versions leave in the allocator's hands.

    glibc keeps freed memory for the threads that asked for it, and versions are loaded
    on many: the process would grow with every swap.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library has none
        ctypes.CDLL(None).malloc_trim(0)


def load_warm(directory: Path, version: int) -> SavedModel:
    """Loads a SavedModel and replays its warm-up requests.

    Args:
        directory: the version's folder.
        version: its number.

    Returns:
        A model whose first request is as fast as its second.

    Raises:
        ModelLoadError: if it cannot be loaded or refuses a warm-up request.
    """
    saved_model = SavedModel(directory)
    try:
        for position, log in enumerate(read_warmup(directory)):
            if log.WhichOneof("log_type") != "predict_log":
                _LOG.warning("warm-up record %d is no Predict: skipped", position)
                continue
            try:
                predict(saved_model, version, log.predict_log.request)
            except RequestError as error:
                raise ModelLoadError(
                    f"`{directory}` refuses warm-up record {position}: {error}"
                ) from error
    except BaseException:
        saved_model.close()
        raise
    return saved_model

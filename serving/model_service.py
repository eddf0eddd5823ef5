"""What ModelService answers: the state of each version, and other models to serve."""

from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from serving.errors import ServerStartError, invalid_argument, not_found
from serving.model_config import MODELS_CONFIG, served_models
from serving.model_store import ModelStore


def get_model_status(
    store: ModelStore, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers one GetModelStatus call.

    Args:
        store: where the versions are.
        request: names a model and optionally one version.

    Returns:
        response: state and error of that version, or of each, newest first.

    Raises:
        RequestError: NOT_FOUND for an unknown model or version.
    """
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    name = request.model_spec.name
    states = store.states(name)
    if not states:
        raise not_found(f"Could not find any versions of model {name}")
    if request.model_spec.HasField("version"):
        wanted = request.model_spec.version.value
        states = [state for state in states if state[0] == wanted]
        if not states:
            raise not_found(f"Could not find version {wanted} of model {name}")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, state, error in states:
        status = response.model_version_status.add(version=version, state=state.value)
        status.status.SetInParent()  # an error code of 0 is OK, and is said
        if error:
            status.status.error_code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
            status.status.error_message = error
    return response


def reload_config(
    store: ModelStore, root: Path, request: model_management_pb2.ReloadConfigRequest
) -> model_management_pb2.ReloadConfigResponse:
    """Answers one HandleReloadConfigRequest call: serves other models from now on.

    Args:
        store: where the versions are; changed before this returns.
        root: the serving root, at which relative base paths start.
        request: holds the new config; an empty list frees every model.

    Raises:
        RequestError: INVALID_ARGUMENT for a config that cannot be served; nothing
            changes then.
    """
    if request.config.WhichOneof("config") is None:
        raise invalid_argument("ReloadConfigRequest should hold a model_config_list")
    try:
        models = served_models(request.config, root / MODELS_CONFIG)
    except ServerStartError as error:
        raise invalid_argument(str(error)) from error
    for model in models:
        if not model.versions_on_disk():
            raise invalid_argument(
                f"No versions of servable {model.name} found under base path "
                f"{model.base_path}"
            )
    store.serve(models)
    return model_management_pb2.ReloadConfigResponse()

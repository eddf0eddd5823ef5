"""What ModelService answers: the state of each version."""

import grpc
from tensorflow_serving.apis import get_model_status_pb2

from serving.errors import invalid_argument, not_found
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
        if error:
            status.status.error_code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
            status.status.error_message = error
    return response

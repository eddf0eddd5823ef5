"""What PredictionService answers, as functions of a model and a request.

Nothing here knows of sockets: `grpc_transport.py` puts these behind gRPC, the model store
runs them to warm a version up, and a test calls them directly. Calls that carry examples
instead of tensors are in `example_service.py`.
"""

import dataclasses

import grpc
import numpy as np
from tensorflow.core.framework import tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2, predict_pb2

from serving import tensor_codec
from serving.errors import RequestError, invalid_argument
from serving.saved_model import SavedModel

DEFAULT_SIGNATURE = "serving_default"
SIGNATURE_DEF_FIELD = "signature_def"


@dataclasses.dataclass(frozen=True)
class Run:
    """What a request asks a model to compute.

    Attributes:
        signature: its name.
        inputs: array by input.
        outputs: names of those asked for; none means all.
    """

    signature: str
    inputs: dict[str, np.ndarray]
    outputs: list[str]


def predict(
    model: SavedModel, version: int, request: predict_pb2.PredictRequest
) -> predict_pb2.PredictResponse:
    """Answers one Predict call.

    Args:
        model: the loaded version that `request.model_spec` resolved to.
        version: its number, reported in the response.
        request: as the client sent it.

    Returns:
        response: each output of the signature, or those of `output_filter`.

    Raises:
        RequestError: FAILED_PRECONDITION for an unknown signature, INVALID_ARGUMENT for
            inputs or outputs that do not fit it.
    """
    run = read_request(model, request)
    outputs = model.run(run.signature, run.inputs, run.outputs)
    return write_response(version, request, outputs)


def read_request(model: SavedModel, request: predict_pb2.PredictRequest) -> Run:
    """Returns what a Predict call asks for; errors as of `predict`."""
    name, signature = named_signature(model, request.model_spec)
    _check_input_names(signature, request)
    inputs = {
        alias: _input_array(alias, info, request.inputs[alias])
        for alias, info in signature.inputs.items()
    }
    return Run(name, inputs, _output_names(signature, request))


def write_response(
    version: int, request: predict_pb2.PredictRequest, outputs: dict[str, np.ndarray]
) -> predict_pb2.PredictResponse:
    """Returns what answers a Predict call, of what was computed for it."""
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = version
    response.model_spec.signature_name = (
        request.model_spec.signature_name or DEFAULT_SIGNATURE
    )
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(tensor_codec.encode(array, as_fields=True))
    return response


def named_signature(
    model: SavedModel, spec: model_pb2.ModelSpec
) -> tuple[str, meta_graph_pb2.SignatureDef]:
    """Returns the signature that a request means, and its name.

    Raises:
        RequestError: FAILED_PRECONDITION if the model has none of that name.
    """
    name = spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signatures.get(name)
    if signature is None:
        raise RequestError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f'Serving signature key "{name}" not found.',
        )
    return name, signature


def get_model_metadata(
    model: SavedModel,
    version: int,
    request: get_model_metadata_pb2.GetModelMetadataRequest,
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers one GetModelMetadata call: the signatures of the model.

    Raises:
        RequestError: INVALID_ARGUMENT for a metadata field other than `signature_def`.
    """
    if not request.metadata_field:
        raise invalid_argument(
            "GetModelMetadataRequest must specify at least one metadata_field"
        )
    for field in request.metadata_field:
        if field != SIGNATURE_DEF_FIELD:
            raise invalid_argument(f"Metadata field {field} is not supported")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in model.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = version
    response.metadata[SIGNATURE_DEF_FIELD].Pack(signatures)
    return response


def _check_input_names(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> None:
    sent, expected = set(request.inputs), set(signature.inputs)
    if sent == expected:
        return
    raise invalid_argument(
        f"input size does not match signature: {len(sent)}!={len(expected)} "
        f"len({_braced(sent)}) != len({_braced(expected)}). "
        f"Sent extra: {_braced(sent - expected)}. "
        f"Missing but required: {_braced(expected - sent)}."
    )


def _input_array(alias: str, info: meta_graph_pb2.TensorInfo, proto) -> np.ndarray:
    if proto.dtype != info.dtype:
        raise invalid_argument(
            f"input {alias}: Expects arg to be {tensor_codec.dtype_name(info.dtype)} "
            f"but {tensor_codec.dtype_name(proto.dtype)} is provided"
        )
    try:
        array = tensor_codec.decode(proto)
    except ValueError as error:
        raise invalid_argument(f"tensor parsing error: {alias}: {error}") from error
    check_shape(alias, array.shape, info.tensor_shape)
    return array


def check_shape(
    alias: str, seen: tuple[int, ...], expected: tensor_shape_pb2.TensorShapeProto
) -> None:
    """Refuses an input whose shape is not the signature's.

    Args:
        alias: its name in the signature.
        seen: its shape.
        expected: the signature's, -1 for any length.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    if expected.unknown_rank:
        return
    wanted = [dim.size for dim in expected.dim]
    if len(seen) != len(wanted) or any(
        want not in (-1, have) for have, want in zip(seen, wanted, strict=True)
    ):
        shape = ",".join("?" if length < 0 else str(length) for length in wanted)
        raise invalid_argument(
            f"input {alias}: Expected shape [{shape}] of rank {len(wanted)}. "
            f"Received: [{','.join(map(str, seen))}] of rank {len(seen)}"
        )


def _output_names(
    signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest
) -> list[str]:
    names = list(request.output_filter)
    for alias in names:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected "
                f"to be in the set {_braced(set(signature.outputs))}."
            )
        if names.count(alias) > 1:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
    return names


def _braced(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"

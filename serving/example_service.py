"""What PredictionService answers to tf.Examples: Classify, Regress, MultiInference.

These calls carry no tensors but rows, as `tf.train.Example`s, and fixed results: a label
and a score per class, or a number. A signature takes part by its `method_name`, and names
its tensors `inputs`, and `classes` and `scores` or `outputs`; TensorFlow's
`MethodNameUpdater` sets the former in an exported model. Messages are TF Serving's.
"""

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.errors import invalid_argument
from serving.prediction_service import DEFAULT_SIGNATURE
from serving.saved_model import SavedModel

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

_INPUTS = "inputs"
_CLASSES, _SCORES = "classes", "scores"
_OUTPUTS = "outputs"


def classify(
    model: SavedModel,
    version: int,
    request: classification_pb2.ClassificationRequest,
) -> classification_pb2.ClassificationResponse:
    """Answers one Classify call.

    Args:
        model: the loaded version that `request.model_spec` resolved to.
        version: its number, reported in the response.
        request: as the client sent it.

    Returns:
        response: for each example, label and score of each class.

    Raises:
        RequestError: INVALID_ARGUMENT for a signature that does not classify, or examples
            it refuses.
    """
    response = classification_pb2.ClassificationResponse()
    response.result.CopyFrom(_classified(model, request.model_spec, request.input))
    _fill_spec(response.model_spec, request.model_spec, version)
    return response


def regress(
    model: SavedModel, version: int, request: regression_pb2.RegressionRequest
) -> regression_pb2.RegressionResponse:
    """Answers one Regress call: a number for each example.

    Args, errors: as of `classify`.
    """
    response = regression_pb2.RegressionResponse()
    response.result.CopyFrom(_regressed(model, request.model_spec, request.input))
    _fill_spec(response.model_spec, request.model_spec, version)
    return response


def multi_inference(
    model: SavedModel, version: int, request: inference_pb2.MultiInferenceRequest
) -> inference_pb2.MultiInferenceResponse:
    """Answers one MultiInference call: several signatures of one model, same examples.

    Args, errors: as of `classify`; and INVALID_ARGUMENT where tasks name several models
        or the same signature twice.
    """
    response = inference_pb2.MultiInferenceResponse()
    evaluated = set()
    for task in request.tasks:
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = _signature_name(task.model_spec)
        if name in evaluated:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        evaluated.add(name)
        result = response.results.add()
        _fill_spec(result.model_spec, task.model_spec, version)
        if task.method_name == CLASSIFY_METHOD:
            result.classification_result.CopyFrom(
                _classified(model, task.model_spec, request.input)
            )
        elif task.method_name == REGRESS_METHOD:
            result.regression_result.CopyFrom(
                _regressed(model, task.model_spec, request.input)
            )
        else:
            raise invalid_argument(
                f"Unsupported signature method_name: {task.method_name}"
            )
    return response


def _classified(
    model: SavedModel, spec: model_pb2.ModelSpec, examples: input_pb2.Input
) -> classification_pb2.ClassificationResult:
    signature = _signature(model, spec, CLASSIFY_METHOD, "classification")
    if not {_CLASSES, _SCORES} & set(signature.outputs):
        raise invalid_argument(
            f"Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {_named(signature)}'
        )
    wanted = [name for name in (_CLASSES, _SCORES) if name in signature.outputs]
    rows = _serialized(examples)
    outputs = model.run(_signature_name(spec), {_INPUTS: rows}, wanted)
    for name, array in outputs.items():
        if array.ndim != 2 or len(array) != len(rows):
            raise invalid_argument(
                f"Expected Tensor shape: [{len(rows)} num_classes] but got "
                f"{list(array.shape)} for {name}"
            )
    shapes = {array.shape for array in outputs.values()}
    if len(shapes) > 1:
        raise invalid_argument(
            f"Tensors {_CLASSES} and {_SCORES} should have one shape. Received: "
            f"{sorted(shapes)}"
        )
    ((num_rows, num_classes),) = shapes
    result = classification_pb2.ClassificationResult()
    for row in range(num_rows):
        classes = result.classifications.add().classes
        for column in range(num_classes):
            one = classes.add()
            if _CLASSES in outputs:
                one.label = _text(outputs[_CLASSES][row, column])
            if _SCORES in outputs:
                one.score = outputs[_SCORES][row, column]
    return result


def _regressed(
    model: SavedModel, spec: model_pb2.ModelSpec, examples: input_pb2.Input
) -> regression_pb2.RegressionResult:
    signature = _signature(model, spec, REGRESS_METHOD, "regression")
    if _OUTPUTS not in signature.outputs:
        raise invalid_argument(
            f'No regression outputs "{_OUTPUTS}" found in SignatureDef: '
            f"{_named(signature)}"
        )
    rows = _serialized(examples)
    values = model.run(_signature_name(spec), {_INPUTS: rows}, [_OUTPUTS])[_OUTPUTS]
    if values.shape not in ((len(rows),), (len(rows), 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [{len(rows)}] or "
            f"[{len(rows)}, 1], but got {list(values.shape)}"
        )
    result = regression_pb2.RegressionResult()
    for value in values.ravel().tolist():
        result.regressions.add(value=value)
    return result


def _signature(
    model: SavedModel, spec: model_pb2.ModelSpec, method: str, kind: str
) -> meta_graph_pb2.SignatureDef:
    name = _signature_name(spec)
    signature = model.signatures.get(name)
    if signature is None:
        raise invalid_argument(f'No signature was found with the name "{name}"')
    if signature.method_name != method:
        raise invalid_argument(
            f"Expected {kind} signature method_name to be {method}. "
            f"Was: {signature.method_name}"
        )
    if set(signature.inputs) != {_INPUTS}:
        raise invalid_argument(
            f'Expected one input Tensor, "{_INPUTS}", of a {kind} signature. Signature '
            f"was: {_named(signature)}"
        )
    if signature.inputs[_INPUTS].dtype != types_pb2.DT_STRING:
        raise invalid_argument(
            f'Expected the input Tensor "{_INPUTS}" of a {kind} signature to hold '
            "serialized examples. It holds no strings"
        )
    return signature


def _serialized(examples: input_pb2.Input) -> np.ndarray:
    """Returns [N] the examples' bytes; what all share comes first in each."""
    kind = examples.WhichOneof("kind")
    rows: list[bytes] = []
    if kind == "example_list":
        rows = [row.SerializeToString() for row in examples.example_list.examples]
    elif kind == "example_list_with_context":
        # Messages joined byte by byte are merged by whoever parses them: an example's own
        # feature stands later, so it wins.
        shared = examples.example_list_with_context
        context = shared.context.SerializeToString()
        rows = [context + row.SerializeToString() for row in shared.examples]
    if not rows:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def _signature_name(spec: model_pb2.ModelSpec) -> str:
    return spec.signature_name or DEFAULT_SIGNATURE


def _fill_spec(
    answered: model_pb2.ModelSpec, asked: model_pb2.ModelSpec, version: int
) -> None:
    answered.name = asked.name
    answered.version.value = version
    answered.signature_name = _signature_name(asked)


def _named(signature: meta_graph_pb2.SignatureDef) -> str:
    return f"inputs {sorted(signature.inputs)}, outputs {sorted(signature.outputs)}"


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

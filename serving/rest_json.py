"""Between TF Serving's REST bodies and tensors: rows, columns, examples, errors.

A Predict body is either rows, `{"instances": [...]}`, stacked along a new first axis, or
columns, `{"inputs": ...}`; the answer has the same form. Bytes are `{"b64": "..."}`. NaN
and infinities stand as `NaN`, `Infinity` and `-Infinity`, as in TF Serving.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving import tensor_codec
from serving.errors import invalid_argument

_ROWS, _COLUMNS = "instances", "inputs"
_BYTES_SUFFIX = "_bytes"  # outputs that are answered in base64, whatever they hold
_B64 = "b64"
_KINDS = {"b": bool, "i": int, "u": int, "f": (int, float)}


def parse_object(body: bytes) -> dict[str, Any]:
    """Reads a request's body.

    Raises:
        RequestError: INVALID_ARGUMENT if it is no JSON object.
    """
    try:
        found = json.loads(body)
        if b"\\u" in body:  # may write half a character, which no UTF-8 has
            dumps(found)
    except (ValueError, RecursionError) as error:
        raise invalid_argument(f"JSON Parse error: {error}") from error
    if not isinstance(found, dict):
        raise invalid_argument(
            f"JSON Value should be an object. Received: {_kind(found)}"
        )
    return found


def predict_inputs(
    body: Mapping[str, Any], signature: meta_graph_pb2.SignatureDef
) -> tuple[dict[str, np.ndarray], bool]:
    """Returns the inputs of a Predict body, and whether it holds rows.

    Raises:
        RequestError: INVALID_ARGUMENT for a body that does not fit the signature.
    """
    if (_ROWS in body) == (_COLUMNS in body):
        raise invalid_argument(
            f"Request should hold either '{_ROWS}' or '{_COLUMNS}'. Received: "
            f"{sorted(body)}"
        )
    if _ROWS in body:
        columns = _columns_of_rows(body[_ROWS], signature)
    else:
        columns = _named(body[_COLUMNS], signature)
    if set(columns) != set(signature.inputs):
        raise invalid_argument(
            f"JSON object does not have the inputs of the signature. Received: "
            f"{sorted(columns)}. Expected: {sorted(signature.inputs)}"
        )
    arrays = {
        name: _array(name, values, signature.inputs[name].dtype)
        for name, values in columns.items()
    }
    return arrays, _ROWS in body


def predict_answer(
    outputs: Mapping[str, np.ndarray], is_rows: bool
) -> dict[str, object]:
    """Returns the body that answers a Predict call, in the form of the request.

    Raises:
        RequestError: INVALID_ARGUMENT if rows were asked for and an output has none.
    """
    plain = {name: _plain(name, array) for name, array in outputs.items()}
    if not is_rows:
        (only, *others) = plain.values()
        return {"outputs": plain if others else only}
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if None in sizes or len(sizes) > 1:
        raise invalid_argument(
            "Outputs should have one first dimension to be answered row by row; ask in "
            f"columns, by '{_COLUMNS}'"
        )
    if len(plain) == 1:
        return {"predictions": next(iter(plain.values()))}
    rows = zip(*plain.values(), strict=True)
    return {"predictions": [dict(zip(plain, row, strict=True)) for row in rows]}


def examples_of(
    body: Mapping[str, Any],
) -> tuple[list[tf.train.Example], tf.train.Example | None]:
    """Returns the examples of a Classify or Regress body, and their common context.

    Raises:
        RequestError: INVALID_ARGUMENT for a body that holds none.
    """
    rows = body.get("examples")
    if not isinstance(rows, list) or not rows:
        raise invalid_argument(
            f"When method is classify or regress, key 'examples' is expected and should "
            f"be a list of at least one. Received: {_kind(rows)}"
        )
    context = body.get("context")
    return (
        [_example(row, f"examples[{place}]") for place, row in enumerate(rows)],
        None if context is None else _example(context, "context"),
    )


def dumps(answer: object) -> bytes:
    """Returns a body, as JSON."""
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


def _columns_of_rows(
    rows: object, signature: meta_graph_pb2.SignatureDef
) -> dict[str, list]:
    if not isinstance(rows, list) or not rows:
        raise invalid_argument(
            f"'{_ROWS}' should be a list of at least one. Received: {_kind(rows)}"
        )
    first = rows[0]
    if not _is_named(first):
        return {_only_input(signature): rows}
    names = set(first)
    for place, row in enumerate(rows):
        if not _is_named(row) or set(row) != names:
            raise invalid_argument(
                f"{_ROWS}[{place}] should be an object with the keys of the first, "
                f"{sorted(names)}. Received: "
                f"{sorted(row) if isinstance(row, dict) else _kind(row)}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _named(columns: object, signature: meta_graph_pb2.SignatureDef) -> dict[str, Any]:
    if _is_named(columns):
        assert isinstance(columns, dict)
        return columns
    return {_only_input(signature): columns}


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and set(value) != {_B64}


def _only_input(signature: meta_graph_pb2.SignatureDef) -> str:
    if len(signature.inputs) != 1:
        raise invalid_argument(
            f"Inputs should be named where there are several. Expected: "
            f"{sorted(signature.inputs)}"
        )
    return next(iter(signature.inputs))


def _array(name: str, values: object, dtype: int) -> np.ndarray:
    try:
        if dtype == types_pb2.DT_STRING:
            return _nested(values, lambda value: _bytes(value, name), np.dtype(object))
        wanted = tensor_codec.numpy_dtype(dtype)
        return _nested(values, lambda value: _number(value, wanted), wanted)
    except (ValueError, OverflowError, RecursionError) as error:
        raise invalid_argument(f"input {name}: {error}") from error


def _nested(values: object, read, dtype: np.dtype) -> np.ndarray:
    """Returns an array of lists in lists, whose innermost values `read` reads."""
    shape, flat = [], [values]
    while flat and isinstance(flat[0], list):
        length = len(flat[0])
        if any(not isinstance(part, list) or len(part) != length for part in flat):
            raise ValueError(
                f"lists at depth {len(shape) + 1} should be of one length, {length}"
            )
        if len(shape) == 32:
            raise ValueError("lists should be nested at most 32 deep")
        shape.append(length)
        flat = [value for part in flat for value in part]
    array = np.empty(len(flat), dtype)
    array[:] = [read(value) for value in flat]
    return array.reshape(shape)


def _number(value: object, dtype: np.dtype) -> object:
    kinds = _KINDS[dtype.kind]
    # Python takes True for a 1; TF Serving does not.
    if isinstance(value, bool) != (kinds is bool) or not isinstance(value, kinds):
        raise ValueError(
            f"JSON Value: {_short(value)} Type: {_kind(value)} is not of expected type: "
            f"{dtype}"
        )
    return value


def _bytes(value: object, name: str) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if (
        isinstance(value, dict)
        and set(value) == {_B64}
        and isinstance(value[_B64], str)
    ):
        try:
            return base64.b64decode(value[_B64], validate=True)
        except binascii.Error as error:
            raise ValueError(f"Unable to base64 decode: {error}") from error
    raise ValueError(
        f"JSON Value: {_short(value)} Type: {_kind(value)} is not of expected type: string"
    )


def _plain(name: str, array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    as_b64 = name.endswith(_BYTES_SUFFIX)
    plain = np.empty(array.shape, object)
    plain[...] = (
        np.vectorize(lambda value: _string(value, as_b64), otypes=[object])(array)
        if array.size
        else array
    )
    return plain.tolist()


def _string(value: bytes | str, as_b64: bool) -> Any:
    if isinstance(value, str):
        value = value.encode()
    if not as_b64:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass  # JSON has no other way to hold it
    return {_B64: base64.b64encode(value).decode()}


def _example(row: object, place: str) -> tf.train.Example:
    if not isinstance(row, dict):
        raise invalid_argument(f"{place} should be an object. Received: {_kind(row)}")
    example = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        try:
            _fill(feature, values, name)
        except (ValueError, OverflowError) as error:
            raise invalid_argument(f"{place}.{name}: {error}") from error
    return example


def _fill(feature: tf.train.Feature, values: list, name: str) -> None:
    if all(isinstance(value, bool) for value in values):
        feature.int64_list.value.extend(int(value) for value in values)
    elif all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        feature.int64_list.value.extend(values)
    elif all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        feature.float_list.value.extend(values)
    else:
        feature.bytes_list.value.extend(_bytes(value, name) for value in values)


def _kind(value: object) -> str:
    kinds = {dict: "Object", list: "Array", str: "String", bool: "Bool"}
    kinds |= {int: "Number", float: "Number", type(None): "Null"}
    return kinds[type(value)]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 50 else f"{text[:47]}..."

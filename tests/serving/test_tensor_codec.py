"""The codec against TensorFlow's own, and against bytes that lie about themselves."""

import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from serving import tensor_codec

ARRAYS = [
    np.array([[1.5, -2.0], [np.inf, 0.0]], np.float32),
    np.array(3, np.int32),
    np.array([2**62, -1], np.int64),
    np.array([True, False]),
    np.array([[b"a", b"\xff\x00"], [b"", "\u2603".encode()]], object),
    np.empty((1, 0), np.float64),
    np.array([200], np.uint8),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
@pytest.mark.parametrize("as_fields", [False, True])
def test_encode_is_read_by_tensorflow(array, as_fields):
    proto = tensor_codec.encode(array, as_fields=as_fields)
    seen = tf.make_ndarray(proto)
    assert seen.dtype == array.dtype
    np.testing.assert_array_equal(seen, array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_decode_reads_tensorflow(array):
    seen = tensor_codec.decode(tf.make_tensor_proto(array))
    assert seen.dtype == array.dtype
    np.testing.assert_array_equal(seen, array)


def test_encode_as_fields_fills_the_field_clients_read():
    proto = tensor_codec.encode(np.array([0.5, 1.0], np.float32), as_fields=True)
    assert list(proto.float_val) == [0.5, 1.0]


def test_encode_refuses_a_dtype_without_counterpart():
    with pytest.raises(ValueError, match="complex128 cannot be sent"):
        tensor_codec.encode(np.array([1j]))


def _proto(dtype, shape, **values) -> tensor_pb2.TensorProto:
    proto = tensor_pb2.TensorProto(dtype=dtype, **values)
    for size in shape:
        proto.tensor_shape.dim.add().size = size
    return proto


FLOAT, STRING = types_pb2.DT_FLOAT, types_pb2.DT_STRING
LIES = [
    _proto(FLOAT, [2**20, 2**20], float_val=[1.0]),
    _proto(STRING, [2**40], string_val=[b"a"]),
    _proto(FLOAT, [2], float_val=[1.0, 2.0, 3.0]),
    _proto(FLOAT, [2], tensor_content=b"\0" * 7),
    _proto(FLOAT, [-1], float_val=[1.0]),
    _proto(FLOAT, [1] * 40, float_val=[1.0]),
    _proto(STRING, [1], tensor_content=b"a"),
    _proto(types_pb2.DT_VARIANT, [1]),
    _proto(9999, [1]),
    _proto(types_pb2.DT_UINT8, [1], int_val=[300]),
]


def check_decode(decode):
    """Values as TensorFlow reads them; a lie is refused before it costs anything."""
    shortened = _proto(FLOAT, [2, 2], float_val=[1.0, 2.0])
    np.testing.assert_array_equal(decode(shortened), [[1.0, 2.0], [2.0, 2.0]])
    np.testing.assert_array_equal(decode(_proto(FLOAT, [3])), [0.0, 0.0, 0.0])
    for lie in LIES:
        with pytest.raises(ValueError):
            decode(lie)


def _fills_with_zeros(proto):
    if proto.tensor_content or proto.dtype != FLOAT:
        return tensor_codec.decode(proto)
    shape = [dim.size for dim in proto.tensor_shape.dim]
    values = list(proto.float_val)
    if len(values) > math.prod(shape) or math.prod(shape) > 1000 or min(shape) < 0:
        raise ValueError
    return np.array(values + [0] * (math.prod(shape) - len(values))).reshape(shape)


def _believes_the_shape(proto):
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if math.prod(shape) > 2**30:
        return np.zeros(1)  # where an unchecked decoder would allocate
    return tensor_codec.decode(proto)


def test_decode_refuses_lies():
    check_decode(tensor_codec.decode)


@pytest.mark.parametrize("wrong", [_fills_with_zeros, _believes_the_shape])
def test_decode_checker_rejects(wrong):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_decode(wrong)

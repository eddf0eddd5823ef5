"""Between NumPy arrays and TensorProto, with the checks that hostile bytes call for.

TensorFlow has the same two functions, but its decoder believes the declared shape: a
request of thirty bytes can make it allocate a terabyte. Here a declared size is checked
before anything of that size exists.
"""

import math
from collections.abc import Sequence

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

# A shape may repeat one value (TensorProto's compressed form) up to this many times.
MAX_REPEATED_VALUES = 1 << 20

# TensorProto dtype -> (NumPy dtype, the repeated field that holds its values).
_NUMERIC: dict[int, tuple[np.dtype, str]] = {
    types_pb2.DT_FLOAT: (np.dtype(np.float32), "float_val"),
    types_pb2.DT_DOUBLE: (np.dtype(np.float64), "double_val"),
    types_pb2.DT_INT8: (np.dtype(np.int8), "int_val"),
    types_pb2.DT_INT16: (np.dtype(np.int16), "int_val"),
    types_pb2.DT_INT32: (np.dtype(np.int32), "int_val"),
    types_pb2.DT_INT64: (np.dtype(np.int64), "int64_val"),
    types_pb2.DT_UINT8: (np.dtype(np.uint8), "int_val"),
    types_pb2.DT_UINT16: (np.dtype(np.uint16), "int_val"),
    types_pb2.DT_UINT32: (np.dtype(np.uint32), "uint32_val"),
    types_pb2.DT_UINT64: (np.dtype(np.uint64), "uint64_val"),
    types_pb2.DT_BOOL: (np.dtype(np.bool_), "bool_val"),
}
_DTYPE_OF = {numpy_dtype: dtype for dtype, (numpy_dtype, _) in _NUMERIC.items()}


def dtype_name(dtype: int) -> str:
    """Returns TensorFlow's short name of a DataType: "float", "string", "int64"."""
    if dtype not in types_pb2.DataType.values():
        return f"unknown dtype {dtype}"
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()


def numpy_dtype(dtype: int) -> np.dtype:
    """Returns the NumPy dtype of a DataType; strings are objects holding bytes."""
    if dtype == types_pb2.DT_STRING:
        return np.dtype(object)
    if dtype not in _NUMERIC:
        raise ValueError(f"tensors of dtype {dtype_name(dtype)} are not supported")
    return _NUMERIC[dtype][0]


def decode(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """Reads a TensorProto.

    Args:
        proto: a tensor as a client sent it; nothing in it is trusted.

    Returns:
        array: numeric, or object of `bytes` for strings. Fewer values than the shape
        has room for repeat the last one, none stand for zeros, as in TensorFlow.

    Raises:
        ValueError: if the dtype is not supported, or shape and values disagree.
    """
    shape = _shape(proto)
    size = math.prod(shape)
    if proto.dtype == types_pb2.DT_STRING:
        if proto.tensor_content:
            raise ValueError("string tensors should be sent in string_val")
        return _fill(list(proto.string_val), size, np.dtype(object), b"").reshape(shape)
    dtype = numpy_dtype(proto.dtype)
    if proto.tensor_content:
        seen, expected = len(proto.tensor_content), size * dtype.itemsize
        if seen != expected:
            raise ValueError(
                f"tensor_content should hold {expected} bytes for shape "
                f"{list(shape)} of {dtype}. Received: {seen} bytes"
            )
        return np.frombuffer(proto.tensor_content, dtype).reshape(shape)
    values = getattr(proto, _NUMERIC[proto.dtype][1])
    return _fill(values, size, dtype, 0).reshape(shape)


def encode(
    array: np.ndarray | Sequence[object], *, as_fields: bool = False
) -> tensor_pb2.TensorProto:
    """Writes an array as a TensorProto.

    Args:
        array: numeric or boolean; or strings (`str` or `bytes`), of any rank.
        as_fields: write numbers into the typed fields (`float_val`, ...), which some
            clients read directly and TF Serving answers with, instead of packed bytes.

    Returns:
        The proto.

    Raises:
        ValueError: if the array's dtype has no counterpart.
    """
    array = np.asarray(array)
    proto = tensor_pb2.TensorProto()
    for length in array.shape:
        proto.tensor_shape.dim.add().size = length
    if array.dtype.kind in "OSU":
        proto.dtype = types_pb2.DT_STRING
        proto.string_val.extend(
            value if isinstance(value, bytes) else str(value).encode()
            for value in array.ravel().tolist()
        )
        return proto
    if array.dtype not in _DTYPE_OF:
        raise ValueError(f"arrays of dtype {array.dtype} cannot be sent as a tensor")
    proto.dtype = _DTYPE_OF[array.dtype]
    if as_fields:
        getattr(proto, _NUMERIC[proto.dtype][1]).extend(array.ravel().tolist())
    else:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
    return proto


def _shape(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    if proto.tensor_shape.unknown_rank:
        raise ValueError("the shape should be known. Received: unknown rank")
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if any(length < 0 for length in shape):
        raise ValueError(f"dimensions should be >= 0. Received: shape {list(shape)}")
    if len(shape) > 32:
        raise ValueError(f"the rank should be <= 32. Received: rank {len(shape)}")
    return shape


def _fill(
    values: Sequence[object], size: int, dtype: np.dtype, zero: object
) -> np.ndarray:
    """Returns `size` values, the last one repeated as often as needed."""
    if len(values) > size:
        raise ValueError(
            f"the shape has room for {size} values, {len(values)} were sent"
        )
    num_missing = size - len(values)
    if num_missing > MAX_REPEATED_VALUES:
        raise ValueError(
            f"the shape asks for {size} values, {len(values)} were sent; at most "
            f"{MAX_REPEATED_VALUES} may be left out"
        )
    out = np.empty(size, dtype)
    try:
        out[: len(values)] = values
    except OverflowError as error:
        raise ValueError(f"a value does not fit {dtype}: {error}") from error
    out[len(values) :] = values[-1] if len(values) else zero
    return out

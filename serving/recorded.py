"""Requests with the answers they must get, as a JSON file that goes with a release.

The process that exports a model records them; ValidateServing replays them against a
server and compares. The file is plain JSON so that a person can read which request
failed, and a server in any language can be checked with it.

One case: `{"model", "signature", "inputs": {name: tensor}, "outputs": {name: tensor}}`,
one tensor: `{"dtype": "string" | "float" | ..., "shape": [..], "values": [..]}`, values
in row order. Text stands as it is, other bytes as `{"b64": "..."}`; NaN stands as null,
infinities as "inf" and "-inf".
"""

import base64
import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

EXPECTED_FILE = "expected.json"

_DTYPES = {
    "string": np.dtype(object),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclasses.dataclass(frozen=True)
class RecordedCase:
    """One request and its answer; strings are `bytes` in arrays of objects."""

    model: str
    signature: str
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def write_expected(path: Path, cases: Sequence[RecordedCase]) -> None:
    """Writes the cases; arrays may hold `str`, `bytes`, numbers or booleans."""
    content = [
        {
            "model": case.model,
            "signature": case.signature,
            "inputs": {name: _to_json(array) for name, array in case.inputs.items()},
            "outputs": {name: _to_json(array) for name, array in case.outputs.items()},
        }
        for case in cases
    ]
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_expected(path: Path) -> list[RecordedCase]:
    """Reads the cases of a release.

    Raises:
        ValueError: if the file is not in the form above; the message names the case.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"`{path}` is missing; the export writes it") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"`{path}` should hold JSON: {error}") from error
    if not isinstance(content, list):
        raise ValueError(f"`{path}` should hold a list of cases")
    cases = []
    for position, case in enumerate(content):
        try:
            cases.append(
                RecordedCase(
                    model=case["model"],
                    signature=case["signature"],
                    inputs={n: _from_json(t) for n, t in case["inputs"].items()},
                    outputs={n: _from_json(t) for n, t in case["outputs"].items()},
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"`{path}`, case {position}: {error!r}") from error
    return cases


def _to_json(array: np.ndarray) -> dict:
    array = np.asarray(array)
    dtype = "string" if array.dtype.kind in "OSU" else _NAMES.get(array.dtype)
    if dtype is None:
        raise ValueError(f"arrays of dtype {array.dtype} cannot be recorded")
    return {
        "dtype": dtype,
        "shape": list(array.shape),
        "values": [_value_to_json(value) for value in array.ravel().tolist()],
    }


def _from_json(tensor: dict) -> np.ndarray:
    if tensor["dtype"] not in _DTYPES:
        raise ValueError(
            f"dtype should be one of {sorted(_DTYPES)}. Received: {tensor['dtype']}"
        )
    values = [_value_from_json(value, tensor["dtype"]) for value in tensor["values"]]
    array = np.empty(len(values), _DTYPES[tensor["dtype"]])
    array[:] = values
    return array.reshape(tensor["shape"])


def _value_to_json(value: object) -> object:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _value_from_json(value: object, dtype: str) -> object:
    if dtype == "string":
        if isinstance(value, dict):
            return base64.b64decode(value["b64"])
        return str(value).encode()
    if dtype in ("float", "double"):
        return math.nan if value is None else float(value)  # type: ignore[arg-type]
    return value

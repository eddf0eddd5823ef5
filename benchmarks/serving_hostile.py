"""Requests that no honest client sends, each with the statuses that are right for it.

Statuses are gRPC's names for what goes over gRPC, numbers for what goes over REST.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

from benchmarks.serving_load import PREDICT
from serving import tensor_codec

MODEL = "recommender"
INVALID = frozenset({"INVALID_ARGUMENT"})
# What gRPC itself answers where a message cannot be parsed.
UNREADABLE = frozenset({"INTERNAL"})
REST_PREDICT = f"/v1/models/{MODEL}:predict"


@dataclasses.dataclass(frozen=True)
class Hostile:
    """One request.

    Attributes:
        kind: what is wrong with it.
        path: gRPC method, or "METHOD /path" of HTTP.
        body: message or body.
        right: statuses that answer it well.
    """

    kind: str
    path: str
    body: bytes
    right: frozenset[str | int]


Row = Mapping[str, np.ndarray]


class GrpcAttacks:
    """Makes hostile Predict requests of good ones.

    Args:
        default: inputs of `serving_default` for one user.
        recommend: inputs of `recommend` for one user.
        random: chooses among what is alike.
    """

    def __init__(self, default: Row, recommend: Row, random: np.random.Generator):
        self._default, self._recommend, self._random = default, recommend, random
        self._kinds: list[Callable[[], Hostile]] = [
            *(self._wrong_rank, self._wrong_dtype, self._missing, self._extra),
            *(self._unequal_batch, self._lying_shape, self._negative_shape),
            *(self._huge_k, self._negative_k, self._long_string, self._not_utf8),
            *(self._not_utf8_name, self._truncated, self._noise, self._empty),
            *(self._unknown_model, self._unknown_version, self._unknown_label),
            *(self._unknown_signature, self._unknown_output, self._unknown_method),
            *(self._not_finite, self._repeated_value, self._no_rows),
        ]

    def forever(self) -> Iterator[Hostile]:
        """Gives one of each kind, over and over."""
        while True:
            for make in self._kinds:
                yield make()

    @property
    def num_kinds(self) -> int:
        return len(self._kinds)

    def _request(self, row: Row, signature: str) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.model_spec.signature_name = signature
        for name, array in row.items():
            request.inputs[name].CopyFrom(tensor_codec.encode(array))
        return request

    def _sent(self, kind: str, right: frozenset, **changes: np.ndarray) -> Hostile:
        request = self._request({**self._default, **changes}, "serving_default")
        return Hostile(kind, PREDICT, request.SerializeToString(), right)

    def _asked(self, kind: str, **changes: np.ndarray) -> Hostile:
        request = self._request({**self._recommend, **changes}, "recommend")
        body = request.SerializeToString()
        return Hostile(kind, PREDICT, body, frozenset({"OK"}))

    def _edited(
        self,
        kind: str,
        right: frozenset,
        edit: Callable[[predict_pb2.PredictRequest], object],
    ) -> Hostile:
        request = self._request(self._default, "serving_default")
        edit(request)
        return Hostile(kind, PREDICT, request.SerializeToString(), right)

    def _wrong_rank(self) -> Hostile:
        name = self._random.choice(sorted(self._default))
        array = self._default[name]
        wrong = [array[np.newaxis], array.reshape(-1)[0:1].reshape(())]
        return self._sent(
            "wrong rank", INVALID, **{name: wrong[self._random.integers(2)]}
        )

    def _wrong_dtype(self) -> Hostile:
        name = self._random.choice(sorted(self._default))
        return self._sent(
            "wrong dtype", INVALID, **{name: np.zeros(self._default[name].shape, "i2")}
        )

    def _missing(self) -> Hostile:
        name = self._random.choice(sorted(self._default))
        return self._edited("missing input", INVALID, lambda r: r.inputs.pop(name))

    def _extra(self) -> Hostile:
        return self._sent("extra input", INVALID, surprise=np.zeros(1, "f4"))

    def _unequal_batch(self) -> Hostile:
        users = np.array(["1", "2", "3"], object)
        return self._sent("unequal batch", INVALID, user_id=users)

    def _shaped(self, kind: str, size: int) -> Hostile:
        def edit(request: predict_pb2.PredictRequest) -> None:
            shape = request.inputs["history_item_ids"].tensor_shape
            del shape.dim[:]
            shape.dim.add(size=1)
            shape.dim.add(size=size)

        return self._edited(kind, INVALID, edit)

    def _lying_shape(self) -> Hostile:
        return self._shaped("lying shape", int(self._random.integers(1 << 30, 1 << 62)))

    def _negative_shape(self) -> Hostile:
        return self._shaped("negative shape", -int(self._random.integers(1, 1 << 40)))

    def _repeated_value(self) -> Hostile:
        def edit(request: predict_pb2.PredictRequest) -> None:
            tensor = request.inputs["user_id"]
            tensor.tensor_shape.dim[0].size = 1 << 40
            tensor.dtype = types_pb2.DT_STRING

        return self._edited("repeated value", INVALID, edit)

    def _huge_k(self) -> Hostile:
        k = int(self._random.integers(1 << 20, (1 << 31) - 1))
        return self._asked("huge k", k=np.array(k, np.int32))

    def _negative_k(self) -> Hostile:
        k = -int(self._random.integers(1, 1 << 31))
        return self._asked("negative k", k=np.array(k, np.int32))

    def _long_string(self) -> Hostile:
        users = np.array([b"x" * (1 << 18)], object)
        return self._asked("long string", user_id=users)

    def _not_utf8(self) -> Hostile:
        users = np.array([self._random.bytes(30)], object)
        return self._asked("bytes that are not UTF-8", user_id=users)

    def _not_finite(self) -> Hostile:
        wild = {
            name: np.full(
                array.shape, self._random.choice([np.inf, -np.inf, 3e38]), "f4"
            )
            for name, array in self._recommend.items()
            if array.dtype == np.float32
        }
        return self._asked("numbers that are not finite", **wild)

    def _no_rows(self) -> Hostile:
        rows = {
            name: array[:0] for name, array in self._recommend.items() if array.ndim
        }
        return self._asked("no rows", **rows)

    def _not_utf8_name(self) -> Hostile:
        body = self._sent("", INVALID).body.replace(b"serving_default", b"\xff" * 15)
        return Hostile("name that is not UTF-8", PREDICT, body, UNREADABLE)

    def _truncated(self) -> Hostile:
        body = self._sent("", INVALID).body
        return Hostile("truncated message", PREDICT, body[:-1], UNREADABLE)

    def _noise(self) -> Hostile:
        body = b"\x0f" + self._random.bytes(int(self._random.integers(200)))
        return Hostile("noise", PREDICT, body, UNREADABLE)

    def _empty(self) -> Hostile:
        return Hostile("empty message", PREDICT, b"", INVALID)

    def _unknown_model(self) -> Hostile:
        def edit(request: predict_pb2.PredictRequest) -> None:
            request.model_spec.name = f"m{self._random.integers(1 << 60)}"

        return self._edited("unknown model", frozenset({"NOT_FOUND"}), edit)

    def _unknown_version(self) -> Hostile:
        def edit(request: predict_pb2.PredictRequest) -> None:
            request.model_spec.version.value = int(self._random.integers(-9, 9))

        return self._edited("unknown version", frozenset({"NOT_FOUND"}), edit)

    def _unknown_label(self) -> Hostile:
        def edit(request: predict_pb2.PredictRequest) -> None:
            request.model_spec.version_label = "x" * 1000

        return self._edited("unknown label", INVALID, edit)

    def _unknown_signature(self) -> Hostile:
        def edit(request: predict_pb2.PredictRequest) -> None:
            request.model_spec.signature_name = "__saved_model_init_op"

        right = frozenset({"FAILED_PRECONDITION"})
        return self._edited("unknown signature", right, edit)

    def _unknown_output(self) -> Hostile:
        return self._edited(
            "unknown output", INVALID, lambda r: r.output_filter.append("weights")
        )

    def _unknown_method(self) -> Hostile:
        path = "/tensorflow.serving.PredictionService/Delete"
        return Hostile("unknown method", path, b"", frozenset({"UNIMPLEMENTED"}))


def columns_of(row: Row) -> dict[str, object]:
    """Returns the inputs of a request as REST takes them."""
    plain = {}
    for name, array in row.items():
        text = array.astype(str) if array.dtype == object else array
        plain[name] = np.where(text != text, None, text).tolist()  # NaN is not equal
    return {name: [0.0] if value == [None] else value for name, value in plain.items()}


class RestAttacks:
    """Makes hostile bodies of a good one.

    Args:
        default: inputs of `serving_default` for one user.
        random: chooses among what is alike.
    """

    def __init__(self, default: Row, random: np.random.Generator):
        self._columns, self._random = columns_of(default), random
        bad = frozenset({400})
        good = json.dumps({"inputs": self._columns}).encode()
        names = sorted(self._columns)

        def with_input(value: object, name: str = "user_id") -> bytes:
            return json.dumps({"inputs": {**self._columns, name: value}}).encode()

        bodies: list[tuple[str, bytes]] = [
            ("no JSON", b"user_id=1"),
            ("truncated JSON", good[:-2]),
            ("JSON nested too deep", b"[" * 100_000),
            ("nested input", b'{"inputs":' + b"[" * 900 + b"]" * 900 + b"}"),
            ("no object", b"[1, 2]"),
            ("empty body", b""),
            ("nothing asked", b"{}"),
            ("rows and columns", b'{"inputs": {}, "instances": []}'),
            ("no rows", b'{"instances": []}'),
            ("bytes that are not UTF-8", b'{"inputs": "\xff\xfe"}'),
            ("lone surrogate", good.replace(b'"user_id": ["', b'"user_id": ["\\ud800')),
            (
                "lone surrogate in a name",
                b'{"signature_name": "\\ud800", "inputs": {}}',
            ),
            ("lone surrogate in a key", b'{"inputs": {"\\ud800": [1]}}'),
            ("broken base64", with_input([{"b64": "!"}])),
            ("number for text", with_input([7])),
            ("object for text", with_input([{"a": 1}])),
            ("ragged", with_input([["a"], ["b", "c"]], "history_item_ids")),
            ("wrong rank", with_input("1")),
            ("huge number", with_input([10**400])),
            ("signature that is no text", b'{"signature_name": 1, "inputs": {}}'),
            ("unknown signature", b'{"signature_name": "x", "inputs": {}}'),
            (
                "missing input",
                json.dumps({"inputs": {names[0]: self._columns[names[0]]}}).encode(),
            ),
        ]
        self._all = [
            Hostile(kind, f"POST {REST_PREDICT}", body, bad) for kind, body in bodies
        ]
        missing = frozenset({404})
        self._all += [
            Hostile("unknown model", "POST /v1/models/x:predict", good, missing),
            Hostile(
                *("unknown version", f"POST /v1/models/{MODEL}/versions/9:predict"),
                *(good, missing),
            ),
            Hostile("unknown path", "GET /etc/passwd", b"", missing),
            Hostile("climbing path", "GET /v1/models/../../etc", b"", missing | bad),
            Hostile("malformed path", f"POST /v1/models/{MODEL}:delete", good, bad),
            Hostile("wrong method", f"PUT {REST_PREDICT}", good, frozenset({405})),
            Hostile("GET of a call", f"GET {REST_PREDICT}", b"", bad),
            Hostile("no examples", f"POST /v1/models/{MODEL}:classify", b"{}", bad),
        ]

    def forever(self) -> Iterator[Hostile]:
        """Gives all of them, over and over."""
        while True:
            yield from self._all

    @property
    def num_kinds(self) -> int:
        return len(self._all)

"""A client for any server of TF Serving's API that holds a Tandem release.

It needs no TensorFlow code of its own. The official stubs are messages of TensorFlow's
package, though, whose import takes seconds, so this module imports them at the first
call and not before.
"""

import dataclasses
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Self

import grpc
import numpy as np

RECOMMEND_SIGNATURE = "recommend"
RECOMMEND_AT_SIGNATURE = "recommend_at"  # the same at a moment, by the input `now`
_INVALID = grpc.StatusCode.INVALID_ARGUMENT

# Inputs of a query that are arguments of `recommend`, not features.
ARGUMENTS = ("user_id", "history_item_ids", "exclude_item_ids", "k", "seed", "now")


class ServerUnavailableError(ConnectionError):
    """No server answers at the target, or not in time."""


class PredictError(Exception):
    """A request the server refused.

    Attributes:
        code: the gRPC status.
        message: the server's reason.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The answer for one user, best first; as many items as exist, at most k."""

    item_ids: list[str]
    scores: list[float]
    propensities: list[float]  # chance with which the policy chose each item
    version: int  # of the release that answered
    seed: int  # asking again with it gives the same answer


class RecommendationClient:
    """Asks a model server for recommendations; thread-safe.

    Args:
        target: "host:port".
        timeout_s: seconds to wait for an answer.
        max_message_mib: largest request or response.
    """

    def __init__(
        self, target: str, *, timeout_s: float = 10.0, max_message_mib: int = 64
    ):
        self.target = target
        self._timeout_s = timeout_s
        limit = max_message_mib << 20
        self._channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", limit),
            ],
        )
        self._signatures: dict[tuple[str, str], Any] = {}

    def recommend(
        self,
        user_id: str,
        history_item_ids: Sequence[str] = (),
        features: Mapping[str, object] | None = None,
        exclude_item_ids: Sequence[str] = (),
        k: int = 10,
        seed: int | None = None,
        model: str = "recommender",
        now: int | None = None,
    ) -> Recommendation:
        """Asks for the items to show to one user.

        Args:
            user_id: known or not.
            history_item_ids: items of the user's earlier events, oldest first.
            features: values by input name (`user_age`, `context_hour`): a string, a
                number, a list of strings for a multi-valued one, a list of numbers for
                a vector or for weights. Those left out count as missing.
            exclude_item_ids: items that must not come back.
            k: how many items to return.
            seed: of the policy's exploration; drawn at random where none is given.
            model: `recommender`, or `recommender_exact`.
            now: ms since the epoch; only items that are available then come back. None
                asks for what was available when the release was made.

        Returns:
            The recommendation.

        Raises:
            ValueError: if `k` or a feature's name is wrong.
            PredictError: if the server refuses the request.
            ServerUnavailableError: if no server answers.
        """
        if k < 1:
            raise ValueError(f"`k` should be >= 1. Received: k={k}")
        seed = secrets.randbits(63) if seed is None else seed
        arguments = recommend_arguments(
            user_id, history_item_ids, exclude_item_ids, k, seed, now
        )
        features = dict(features or {})
        try:
            outputs, version = self._recommend(model, arguments, features)
        except PredictError as error:
            if error.code is not _INVALID:
                raise
            # A release swapped in since the signature was read may have other inputs.
            self._signatures.pop((model, _signature_of(arguments)), None)
            outputs, version = self._recommend(model, arguments, features)
        item_ids = [item.decode() for item in outputs["item_ids"][0] if item]
        return Recommendation(
            item_ids=item_ids,
            scores=outputs["scores"][0][: len(item_ids)].tolist(),
            propensities=outputs["propensities"][0][: len(item_ids)].tolist(),
            version=version,
            seed=seed,
        )

    def predict(
        self,
        model: str,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        version: int | None = None,
    ) -> tuple[dict[str, np.ndarray], int]:
        """Calls any signature of any model.

        Args:
            model: its name.
            signature: its signature.
            inputs: array by input name, of the signature's dtypes.
            version: that version; None is the latest.

        Returns:
            (outputs, version): array by output name, strings as bytes; and the version
            that answered.
        """
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        from serving import tensor_codec

        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tensor_codec.encode(array))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        response = self._call(stub.Predict, request)
        outputs = {
            name: tensor_codec.decode(proto) for name, proto in response.outputs.items()
        }
        return outputs, response.model_spec.version.value

    def signature(self, model: str, signature: str = RECOMMEND_SIGNATURE):
        """Returns the SignatureDef of a model, as the server describes it.

        Raises:
            PredictError: NOT_FOUND if there is no such model or signature.
        """
        from tensorflow_serving.apis import (
            get_model_metadata_pb2,
            prediction_service_pb2_grpc,
        )

        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = model
        request.metadata_field.append("signature_def")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        response = self._call(stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        if signature not in signatures.signature_def:
            raise PredictError(
                grpc.StatusCode.NOT_FOUND,
                f"{model} has no signature `{signature}`, it has "
                f"{sorted(signatures.signature_def)}",
            )
        return signatures.signature_def[signature]

    def model_status(self, model: str) -> dict[int, str]:
        """Returns the state ("AVAILABLE", ...) of each version of a model."""
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = model
        stub = model_service_pb2_grpc.ModelServiceStub(self._channel)
        response = self._call(stub.GetModelStatus, request)
        names = get_model_status_pb2.ModelVersionStatus.State
        return {
            status.version: names.Name(status.state)
            for status in response.model_version_status
        }

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _recommend(
        self, model: str, arguments: dict[str, np.ndarray], features: dict[str, object]
    ) -> tuple[dict[str, np.ndarray], int]:
        name = _signature_of(arguments)
        key = (model, name)
        if key not in self._signatures:
            self._signatures[key] = self.signature(*key)
        signature = self._signatures[key]
        known = sorted(set(signature.inputs) - set(ARGUMENTS))
        unknown = sorted(set(features) - set(known))
        if unknown:
            raise ValueError(
                f"`features` should be among {known}, the inputs of {model}. "
                f"Received also: {unknown}"
            )
        inputs = arguments | {
            key: feature_array(key, features.get(key), signature.inputs[key])
            for key in known
        }
        if signature.inputs["k"].tensor_shape.unknown_rank:
            # A number a row: a server may then join the request with any other.
            inputs["k"] = inputs["k"][np.newaxis]
        return self.predict(model, name, inputs)

    def _call(self, method, request):
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code is grpc.StatusCode.UNAVAILABLE:
                port = self.target.rpartition(":")[2]
                raise ServerUnavailableError(
                    f"no model server answers at {self.target}. Start one with "
                    f"`tandem serve --root <root> --port {port}` ({details})"
                ) from error
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise ServerUnavailableError(
                    f"the model server at {self.target} did not answer within "
                    f"{self._timeout_s:g} s; see its log, or raise the timeout"
                ) from error
            raise PredictError(code, details) from error


def recommend_arguments(
    user_id: str,
    history_item_ids: Sequence[str],
    exclude_item_ids: Sequence[str],
    k: int,
    seed: int,
    now: int | None = None,
) -> dict[str, np.ndarray]:
    """Returns the inputs that are no features, for one user.

    They are those of `recommend`; with `now`, of `recommend_at`.
    """
    moment = {} if now is None else {"now": np.array([now], np.int64)}
    return moment | {
        "user_id": np.array([user_id], object),
        "history_item_ids": _row_of_strings(history_item_ids),
        "exclude_item_ids": _row_of_strings(exclude_item_ids),
        "k": np.array(k, np.int32),
        "seed": np.array([seed], np.int64),
    }


def _signature_of(arguments: Mapping[str, np.ndarray]) -> str:
    return RECOMMEND_AT_SIGNATURE if "now" in arguments else RECOMMEND_SIGNATURE


def feature_array(name: str, value: object, info) -> np.ndarray:
    """Returns a feature of one user as the array its signature asks for.

    Args:
        name: of the input.
        value: a string, a number, or a list of them; None stands for missing.
        info: TensorInfo of the input: [B], [B, L], or [B, D] with a number for D.

    Returns:
        array: [1], [1, L] or [1, D]; missing is "" for strings, NaN for floats, 0 for
        integers.

    Raises:
        ValueError: if `value` has more or fewer members than the input takes.
    """
    from serving import tensor_codec

    dtype = tensor_codec.numpy_dtype(info.dtype)
    sizes = [dim.size for dim in info.tensor_shape.dim][1:]
    size = sizes[0] if sizes else 1  # -1 where any number will do
    if value is None:
        missing = {"O": "", "f": np.nan}.get(dtype.kind, 0)
        values = [missing] * max(size, 1)
    else:
        is_list = isinstance(value, list | tuple | np.ndarray)
        values = list(value) if is_list else [value]
    if size not in (-1, len(values)):
        wanted = f"a list of {size} numbers" if sizes else "one value"
        raise ValueError(f"`{name}` should be {wanted}. Received: {values}")
    row = np.empty(len(values), dtype)
    row[:] = values
    return row[np.newaxis, :] if sizes else row


def _row_of_strings(values: Sequence[str]) -> np.ndarray:
    """Returns [1, n] strings; one pad where there is none, so that no axis is empty."""
    return np.array([list(values) or [""]], object)

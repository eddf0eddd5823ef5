"""Requests that nobody in their right mind sends, and what a release must make of them.

Some must be refused as they are malformed; the others are well-formed, and must be
answered within the contract: bounded, finite, of the catalogue. ValidateServing asks them
before it replays the recorded requests, so that an effect on good traffic shows there.
"""

from collections.abc import Mapping, Sequence

import grpc
import numpy as np

from serving.client import PredictError
from serving.contract import Arrays, EdgeCase, Recommend

_MOST_PADDING = 1000  # columns of an answer beyond the catalogue, whatever `k` asks
_LARGEST_K = 2**31 - 1
_MANY = 10_000
_LONG = 1 << 20
_BAD_UTF8 = b"\xff\xfe\xfd"
_ARGUMENTS = ("user_id", "history_item_ids", "exclude_item_ids", "k", "seed")


def malformed_requests(template: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """Returns requests that must be refused, by name.

    Args:
        template: inputs of any good `recommend` request.
    """
    good = _one_user(template)
    return {
        "an input too many": {**good, "no_such_input": _strings("x")},
        "an input too few": {k: v for k, v in good.items() if k != "user_id"},
        "no inputs": {},
        "k as text": {**good, "k": np.array("10", object)},
        "k as a matrix": {**good, "k": np.ones((1, 1), np.int32)},
        "users as a matrix": {**good, "user_id": np.array([["a"]], object)},
        "history without rows": {
            **good,
            "history_item_ids": np.array(["i"], object),
        },
    }


def check_refused(inputs: Mapping[str, np.ndarray], recommend: Recommend) -> None:
    """Asks, and checks that it is refused as the caller's mistake.

    Raises:
        ValueError: if it is answered, or refused as anything else.
    """
    try:
        recommend(inputs)
    except PredictError as error:
        if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
            raise ValueError(
                f"it should be refused with INVALID_ARGUMENT. Received: {error}"
            ) from error
        return
    raise ValueError("it should be refused with INVALID_ARGUMENT. Received: an answer")


def hostile_cases(template: Arrays, item_ids: Sequence[str]) -> list[EdgeCase]:
    """Returns well-formed requests that must be answered within the contract.

    Args:
        template: inputs of any good `recommend` request.
        item_ids: every item of the catalogue.
    """
    good = _one_user(template)
    few = min(10, len(item_ids))
    many = [f"no such item {number}" for number in range(_MANY)]
    changes: dict[str, dict[str, np.ndarray]] = {
        "ids that are no text": {
            "user_id": np.array([_BAD_UTF8], object),
            "history_item_ids": _row([_BAD_UTF8, b"\0"]),
            "exclude_item_ids": _row([_BAD_UTF8]),
        },
        "ids of a megabyte": {
            "user_id": _strings("u" * _LONG),
            "history_item_ids": _row(["i" * _LONG]),
        },
        "a history of ten thousand": {"history_item_ids": _row(many)},
        "ten thousand items excluded": {"exclude_item_ids": _row(many)},
        "text that is no text": _texts(good, _BAD_UTF8),
        "numbers without end": _numbers(good, np.inf),
        "numbers at the edge of float": _numbers(good, -3.4e38),
        "the smallest seed": {"seed": np.array([-(2**63)], np.int64)},
    }
    cases = [
        _case(name, {**good, "k": _k(few), **change}, item_ids, few)
        for name, change in changes.items()
    ]
    below = {**good, "k": _k(-5)}
    return [*cases, _case("a negative k", below, item_ids, 0)]


def check_largest_k(
    template: Arrays, item_ids: Sequence[str], recommend: Recommend
) -> None:
    """Asks for as many items as an int32 can say, and checks that the answer is bounded.

    Raises:
        ValueError: if it is wider than the catalogue and some padding.
    """
    answer = recommend({**_one_user(template), "k": _k(_LARGEST_K)})
    width, most = answer["item_ids"].shape[1], len(item_ids) + _MOST_PADDING
    if width > most:
        raise ValueError(
            f"an answer should have at most {most} columns, {_MOST_PADDING} more than "
            f"there are items. Received for k={_LARGEST_K}: {width}"
        )


def _one_user(template: Arrays) -> dict[str, np.ndarray]:
    few = {"exclude_item_ids": _row([""]), "k": _k(1)}
    users = {name: array[:1] for name, array in template.items() if array.ndim}
    return {**template, **users, **few}


def _case(
    name: str, inputs: dict[str, np.ndarray], item_ids: Sequence[str], k: int
) -> EdgeCase:
    # How many come back is for the edge cases to say: that they are sound is said here.
    return EdgeCase(name, inputs, frozenset(item_ids), k, 0, k)


def _features(inputs: Arrays) -> dict[str, np.ndarray]:
    return {
        name: array
        for name, array in inputs.items()
        if name not in _ARGUMENTS and name.startswith(("user_", "context_"))
    }


def _texts(inputs: Arrays, value: bytes) -> dict[str, np.ndarray]:
    return {
        name: np.full(array.shape, value, object)
        for name, array in _features(inputs).items()
        if array.dtype.kind in "OSU"
    }


def _numbers(inputs: Arrays, value: float) -> dict[str, np.ndarray]:
    return {
        name: np.full(array.shape, value, array.dtype)
        for name, array in _features(inputs).items()
        if array.dtype.kind == "f"
    }


def _strings(*values: str) -> np.ndarray:
    return np.array(values, object)


def _row(items: Sequence[str] | Sequence[bytes]) -> np.ndarray:
    return np.array([list(items)], object)


def _k(k: int) -> np.ndarray:
    return np.array(k, np.int32)

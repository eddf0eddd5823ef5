"""The promises of `recommend` at its edges, as requests and what their answers must be.

An answer always, never an error: exactly k distinct, known, not excluded items, or as
many as exist and the release's caps allow; the tail is "" with score 0 and propensity 0;
the same seed gives the same answer.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

Arrays = Mapping[str, np.ndarray]
Recommend = Callable[[Arrays], Arrays]

_OUTPUTS = ("item_ids", "scores", "propensities")
_SCALARS = ("k",)


@dataclasses.dataclass(frozen=True)
class Cap:
    """How many items of a slate may share a value of one feature.

    Attributes:
        limit: at most so many.
        values: of each item that has some.
    """

    limit: int
    values: Mapping[str, Sequence[str]]

    @property
    def is_single(self) -> bool:
        """Whether no item has two values."""
        return all(len(set(values)) < 2 for values in self.values.values())

    def counts(self, items: Collection[str]) -> Counter[str]:
        """Returns how many of some items have each value."""
        return Counter(value for i in items for value in set(self.values.get(i, ())))


@dataclasses.dataclass(frozen=True)
class EdgeCase:
    """One request for one user, and the bounds of its answer."""

    name: str
    inputs: dict[str, np.ndarray]
    allowed: frozenset[str]  # items that may come back
    k: int
    min_items: int  # how many must come back
    max_items: int
    caps: tuple[Cap, ...] = ()


def edge_cases(
    template: Arrays, item_ids: Sequence[str], caps: Sequence[Cap] = ()
) -> list[EdgeCase]:
    """Returns the requests at the edges of the contract.

    Args:
        template: inputs of any good `recommend` request; its first row's features and
            history are used.
        item_ids: every item of the catalogue.
        caps: of the release's policy.

    Returns:
        One case per promise.
    """
    base = {
        name: array if name in _SCALARS else array[:1]
        for name, array in template.items()
    }
    num_items, first = len(item_ids), list(item_ids[:1])
    few = min(10, num_items)
    plain = {"exclude_item_ids": _row([""]), "k": _k(few)}
    changes: dict[str, dict[str, np.ndarray]] = {
        "unknown user": {"user_id": np.array(["no such user \u2603"], object)},
        "empty history": {"history_item_ids": _row([""])},
        "history without columns": {"history_item_ids": np.empty((1, 0), object)},
        "unknown history": {"history_item_ids": _row(["no such item", "nor this"])},
        "history of one item many times": {"history_item_ids": _row(first * 300)},
        "no feature known": _missing(base),
        "unknown items excluded": {"exclude_item_ids": _row(["no such item"])},
        "half the catalogue excluded": {
            "exclude_item_ids": _row(item_ids[: num_items // 2] or [""])
        },
        "one item asked for": {"k": _k(1)},
        "k larger than the catalogue": {
            "history_item_ids": _row([""]),
            "k": _k(num_items + 3),
        },
        "all but one item excluded": {
            "history_item_ids": _row([""]),
            "exclude_item_ids": _row(item_ids[1:] or [""]),
        },
        "every item excluded": {"exclude_item_ids": _row(item_ids)},
    }
    return [
        _case(name, {**base, **plain, **change}, item_ids, tuple(caps))
        for name, change in changes.items()
    ]


def check_edge_case(case: EdgeCase, recommend: Recommend) -> None:
    """Asks twice and checks both answers.

    Args:
        case: the request and its bounds.
        recommend: the implementation: inputs -> outputs by name.

    Raises:
        ValueError: naming the promise that was broken.
    """
    answer = recommend(case.inputs)
    check_answer(case, answer)
    again = recommend(case.inputs)
    for name in _OUTPUTS:
        same = answer[name] == again[name]
        if answer[name].dtype.kind == "f":
            same = np.isclose(answer[name], again[name], 1e-6, 1e-6)
        if not np.all(same):
            raise ValueError(
                f"the same seed should give the same {name}. Received: "
                f"{answer[name].tolist()}, then {again[name].tolist()}"
            )


def check_answer(case: EdgeCase, answer: Arrays) -> None:
    """Checks one answer against the promises.

    Raises:
        ValueError: naming the promise that was broken.
    """
    for name in _OUTPUTS:
        if name not in answer or answer[name].shape != (1, case.k):
            seen = list(answer[name].shape) if name in answer else "no such output"
            raise ValueError(
                f"{name} should have shape [1, {case.k}]. Received: {seen}"
            )
    ids = [_text(item) for item in answer["item_ids"][0]]
    scores, propensities = answer["scores"][0], answer["propensities"][0]
    items = [item for item in ids if item]
    count = len(items)
    if ids[:count] != items:
        raise ValueError(f'"" should stand at the end only. Received: {ids}')
    if len(set(items)) < count:
        twice = sorted({item for item in items if items.count(item) > 1})
        raise ValueError(f"items should be distinct. Received twice: {twice}")
    strangers = sorted(set(items) - case.allowed)
    if strangers:
        raise ValueError(
            "items should be known and not excluded. "
            f"Received {len(strangers)} others: {strangers[:3]}"
        )
    for cap in case.caps:
        value, most = max(
            cap.counts(items).items(), key=lambda pair: pair[1], default=("", 0)
        )
        if most > cap.limit:
            raise ValueError(
                f"{cap.limit} items at most should share a value. Received: {most} "
                f"of {value!r}"
            )
    if not case.min_items <= count <= case.max_items:
        raise ValueError(
            f"{case.min_items} items should come back, as k and the catalogue allow. "
            f"Received: {count}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"scores should be finite. Received: {scores.tolist()}")
    shown = propensities[:count]
    if not ((shown > 0) & (shown <= 1)).all():
        raise ValueError(
            f"propensities should be in (0, 1]. Received: {shown.tolist()}"
        )
    if scores[count:].any() or propensities[count:].any():
        raise ValueError('the tail of "" should have score 0 and propensity 0')


def _case(
    name: str,
    inputs: dict[str, np.ndarray],
    item_ids: Sequence[str],
    caps: tuple[Cap, ...],
) -> EdgeCase:
    excluded = {_text(item) for item in inputs["exclude_item_ids"][0]}
    history = {_text(item) for item in inputs["history_item_ids"][0]}
    allowed = frozenset(item_ids) - excluded
    named = _named_items(inputs)
    k = int(inputs["k"])
    return EdgeCase(
        name=name,
        inputs=inputs,
        allowed=allowed,
        k=k,
        # Whether the history's items come back is the policy's choice. A feature may
        # name an item to find more like it, which does not come back either.
        min_items=min(k, _least_that_fit(allowed - history - named, caps)),
        max_items=min(k, len(allowed)),
        caps=caps,
    )


def _least_that_fit(items: Collection[str], caps: tuple[Cap, ...]) -> int:
    """Returns how many of some items a slate holds at least, however it is drawn.

    Where each item has one value of one feature, every order of drawing ends with as
    many. Where values overlap it does not: an item may use up two values at once.
    """
    if not caps:
        return len(items)
    if len(caps) > 1 or not caps[0].is_single:
        return min(1, len(items))
    counts = caps[0].counts(items)
    return len(items) - sum(max(0, n - caps[0].limit) for n in counts.values())


def _named_items(inputs: Arrays) -> set[str]:
    """Returns the values of the context's text features."""
    return {
        _text(value)
        for name, array in inputs.items()
        if name.startswith("context_") and array.dtype.kind in "OSU"
        for value in array.ravel().tolist()
    }


def _missing(inputs: Arrays) -> dict[str, np.ndarray]:
    """Returns the feature inputs as a caller sends them who knows none of them."""
    out = {}
    for name, array in inputs.items():
        if name.startswith(("user_", "context_")) and name != "user_id":
            if array.dtype.kind in "OSU":
                out[name] = np.full(array.shape, "", object)
            elif array.dtype.kind == "f":
                out[name] = np.full(array.shape, np.nan, array.dtype)
    return out


def _row(items: Sequence[str]) -> np.ndarray:
    return np.array([list(items)], object)


def _k(k: int) -> np.ndarray:
    return np.array(k, np.int32)


def _text(item: str | bytes) -> str:
    return item.decode(errors="replace") if isinstance(item, bytes) else item

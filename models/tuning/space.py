"""Which settings may be tried: paths and values, held to the settings' own types."""

import dataclasses
import difflib
import enum
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from models.tuning_settings import Dimension

# Trials are compared, so they have to be measured alike.
_FIXED = {"ranking.target": "log losses of two targets are not of the same thing"}
_DIGITS = 4  # of a number that is tried: what a table and a config show is what it was


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """What of one section is varied.

    Attributes:
        section: `ranking` or `retrieval`.
        settings: of the section, as configured.
        dimensions: by the path below the section.
    """

    section: str
    settings: BaseModel
    dimensions: Mapping[str, Dimension]

    def parent(self, path: str) -> tuple[str, str] | None:
        """Returns the varied key and its value without which `path` has no effect."""
        kind = _kind_of(self.settings, path)
        return ("model", kind) if kind and "model" in self.dimensions else None

    def is_integer(self, path: str) -> bool:
        """Whether the values of a range are whole numbers."""
        return _number_type(type(self.settings), path) is int

    def choices(self, path: str) -> list[Any]:
        """Returns the choices of a path as the settings themselves would write them."""
        values = self.dimensions[path].choices or ()
        return [_read(with_values(self.settings, {path: v}), path) for v in values]

    def rounded(self, path: str, value: Any) -> Any:
        """Returns a value of a range with few digits, still inside."""
        dimension = self.dimensions[path]
        assert dimension.min is not None and dimension.max is not None
        if self.is_integer(path):
            return min(max(round(value), int(dimension.min)), int(dimension.max))
        short = float(f"{value:.{_DIGITS}g}")
        return min(max(short, float(dimension.min)), float(dimension.max))


def search_space(
    space: Mapping[str, Dimension], sections: Mapping[str, BaseModel]
) -> SearchSpace:
    """Returns the search space of a config whose `space_problems` are none."""
    section = next(iter(space)).partition(".")[0]
    below = {path.partition(".")[2]: dimension for path, dimension in space.items()}
    return SearchSpace(section, sections[section], below)


def space_problems(
    space: Mapping[str, Dimension], sections: Mapping[str, BaseModel]
) -> Iterator[str]:
    """Yields one sentence for each place of `tuning.space` that cannot be.

    Args:
        space: the dimensions by path; the path begins with a section's name.
        sections: the settings, as configured, that may be searched.
    """
    valid = [
        f"{name}.{path}"
        for name, settings in sections.items()
        for path in _paths(type(settings))
        if f"{name}.{path}" not in _FIXED
    ]
    searched = {path.partition(".")[0] for path in space} & set(sections)
    if len(searched) > 1:
        yield (
            f"tuning.space: {' and '.join(sorted(searched))} are trained, and judged, "
            "apart from each other: search one of them at a time."
        )
    for path, dimension in space.items():
        place = f"tuning.space.{path}"
        if path not in valid:
            yield f"{place}: {_unknown(path, valid)}"
            continue
        section, _, below = path.partition(".")
        settings = sections[section]
        yield from (f"{place}: {p}" for p in _problems(settings, below, dimension))
        kind = _kind_of(settings, below)
        models = space.get(f"{section}.model")
        tried = _texts(models) if models else [_read(settings, "model")] if kind else []
        if kind and kind not in tried:
            yield (
                f"{place}: has no effect on {', '.join(tried)}. Set `{section}.model: "
                f"{kind}`, or give `tuning.space.{section}.model` {kind} as a choice."
            )


def with_values(settings: BaseModel, values: Mapping[str, Any]) -> Any:
    """Returns settings with the values at some paths, checked as a config's are.

    Raises:
        ValidationError: if a value, or what the values are together, is not allowed.
    """
    tree = settings.model_dump(mode="json")
    for path, value in values.items():
        *parents, last = path.split(".")
        place = tree
        for parent in parents:
            place = place[parent]
        place[last] = value
    return type(settings).model_validate(tree)


def overlay(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a config file holds for the values at some paths of a section."""
    tree: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = f"{section}.{path}".split(".")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return tree


def _unknown(path: str, valid: list[str]) -> str:
    if path in _FIXED:
        return f"cannot be searched: {_FIXED[path]}. Set it once, under `{path}`."
    below = [key for key in valid if key.startswith(f"{path}.")]
    if below:
        return f"is a section. Name one of its keys: {below}."
    nearest = difflib.get_close_matches(path, valid, n=1, cutoff=0.0)
    return f"no setting that can be searched. Did you mean `{nearest[0]}`?"


def _problems(settings: BaseModel, path: str, dimension: Dimension) -> Iterator[str]:
    """Yields what is wrong with the values that a path is to take."""
    in_itself = list(dimension.problems())
    if in_itself:
        yield from in_itself
        return
    if dimension.choices is not None:
        for value in dimension.choices:
            yield from _value_problems(settings, path, value)
        return
    number = _number_type(type(settings), path)
    if number is None:
        yield "is no number, so it has no `min` and `max`. Give `choices`."
        return
    for value in (dimension.min, dimension.max):
        yield from _value_problems(settings, path, value)
    if (
        number is int
        and dimension.step is not None
        and int(dimension.step) != (dimension.step)
    ):
        yield f"`step` of whole numbers should be one. Received: {dimension.step}."


def _value_problems(settings: BaseModel, path: str, value: Any) -> Iterator[str]:
    parts = tuple(path.split("."))
    try:
        with_values(settings, {path: value})
    except ValidationError as error:
        for problem in error.errors():
            # What several keys are together is said of the trial that has them.
            if tuple(problem["loc"])[: len(parts)] == parts:
                yield f"{value!r}: {problem['msg']}."


def _paths(model: type[BaseModel]) -> Iterator[str]:
    """Yields the paths of a section's values."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from (f"{name}.{path}" for path in _paths(inner))
        else:
            yield name


def _number_type(model: type[BaseModel], path: str) -> type | None:
    """Returns int or float where the value at a path is one, None where not."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = model.model_fields[parent].annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel)
        model = inner
    annotation = model.model_fields[last].annotation
    kinds = (annotation,)
    if get_origin(annotation) in (Union, UnionType):
        kinds = get_args(annotation)
    return next((kind for kind in (float, int) if kind in kinds), None)


def _kind_of(settings: BaseModel, path: str) -> str | None:
    """Returns the model that a path sizes; None where it is of all models."""
    model = type(settings).model_fields.get("model")
    kinds = model.annotation if model else None
    if not (isinstance(kinds, type) and issubclass(kinds, enum.Enum)):
        return None
    root, _, below = path.partition(".")
    return root if below and root in {kind.value for kind in kinds} else None


def _texts(dimension: Dimension) -> list[str]:
    return [str(choice) for choice in dimension.choices or ()]


def _read(settings: BaseModel, path: str) -> Any:
    """Returns the value at a path as JSON has it."""
    value: Any = settings.model_dump(mode="json")
    for part in path.split("."):
        value = value[part]
    return value

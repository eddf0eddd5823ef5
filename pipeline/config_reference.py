"""The config reference, `docs/configuration.md`, rendered from the settings themselves.

uv run python -m pipeline.config_reference > docs/configuration.md
"""

import dataclasses
import datetime
import enum
import json
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from pipeline.config import TandemConfig, settings_class

_INTRODUCTION = """\
# Configuration

A run is described by one YAML file. This page is rendered from the settings in the code
by `uv run python -m pipeline.config_reference > docs/configuration.md`; a test keeps the
two equal.

`tandem run --config FILE` takes a path or the name of a shipped config
(`pipeline/configs/`). `--set key.path=value` overrides one value, read as YAML, under the
same checks; it reaches keys, not positions of a list, so a list is given as a whole
(`--set 'ranking.deepfm.hidden=[64, 32]'`). `--set @FILE` lays a YAML file of keys over the
config, such as the one that `tandem tune` writes. An unknown key, a wrong type and a value out of
range each stop the run before it starts, with the place and, for a key, the nearest valid
one. The effective config of a run is stored beside its figures in `report/config.json`.

In the tables `[]` stands for each member of a list and `<name>` for a key of your own.
"""

_BOUNDS = {"ge": ">= {}", "gt": "> {}", "le": "<= {}", "lt": "< {}"}
_LENGTHS = {"min_length": "at least {}", "max_length": "at most {}"}
_TYPE_NAMES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "true or false",
    datetime.datetime: "ISO 8601 time",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """One row of the reference."""

    path: str
    type: str
    default: str
    bounds: str
    description: str


def render() -> str:
    """Returns the reference as Markdown."""
    rows = settings()
    parts = [
        _INTRODUCTION,
        "## Top level\n",
        _table([row for row in rows if "." not in row.path]),
    ]
    for name, field in TandemConfig.model_fields.items():
        inner = [row for row in rows if row.path.startswith(f"{name}.")]
        if inner:
            parts += [f"## `{name}`\n", _description(field) + "\n", _table(inner)]
    return "\n".join(parts)


def settings() -> list[Setting]:
    """Returns the keys of a config in the order of declaration.

    The keys of a section that occurs twice stand at its first place only.
    """
    return list(_keys_of(TandemConfig, "", {}))


def _keys_of(
    model: type[BaseModel], prefix: str, places: dict[type[BaseModel], str]
) -> Iterator[Setting]:
    """Yields the keys of a section; `places` has where each section was met first."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        inner = settings_class(field.annotation)
        description = _description(field)
        if inner in places:
            description += f" Its keys are those of `{places[inner]}`."
        yield Setting(
            path,
            _type_name(field.annotation),
            _default(field),
            _bounds(field),
            description,
        )
        if inner and inner not in places:
            member = f"{path}{_member(field.annotation)}"
            places[inner] = member
            yield from _keys_of(inner, f"{member}.", places)


def _member(annotation: Any) -> str:
    origin = get_origin(annotation)
    return {tuple: "[]", dict: ".<name>"}.get(origin, "")


def _description(field: FieldInfo) -> str:
    """Returns the field's description, or what its type says of itself."""
    if field.description:
        return field.description
    named = settings_class(field.annotation) or field.annotation
    summary = (getattr(named, "__doc__", None) or "").split("\n")[0]
    is_own = isinstance(named, type) and issubclass(named, BaseModel | enum.Enum)
    return summary if is_own else ""


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(_type_name(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"{_type_name(arguments[1])} by name"
    if annotation is NoneType:
        return "null"
    if issubclass(annotation, enum.Enum):
        return " | ".join(f"`{member.value}`" for member in annotation)
    return "section" if issubclass(annotation, BaseModel) else _TYPE_NAMES[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return ""  # its own keys have theirs
    return f"`{json.dumps(to_jsonable_python(default), ensure_ascii=False)}`"


def _bounds(field: FieldInfo) -> str:
    """Returns the range, the length and the pattern that a value must keep to."""
    bounds = []
    for constraint in field.metadata:
        for names, form in ((_BOUNDS, "{}"), (_LENGTHS, "length {}")):
            for name, text in names.items():
                limit = getattr(constraint, name, None)
                if limit is not None:
                    bounds.append(form.format(text.format(limit)))
        pattern = getattr(constraint, "pattern", None)
        if pattern:
            bounds.append(f"`{pattern}`")
    return ", ".join(bounds)


def _table(rows: list[Setting]) -> str:
    lines = ["| key | type | default | bounds | meaning |", "| --- " * 5 + "|"]
    for row in rows:
        cells = (f"`{row.path}`", row.type, row.default, row.bounds, row.description)
        escaped = (cell.replace("|", "\\|") for cell in cells)
        lines.append("| " + " | ".join(escaped) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")

"""What a release needs of a server, and which servers have it.

A manifest states the needs; `saved_model_needs.py` reads them out of the models. The rules
here know of a server what its image's name says, and run nothing.
"""

import dataclasses
import re
from collections.abc import Collection

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict

SCANN_OPS = "Scann>"  # begins the names of ScaNN's ops
# Machine code that runs whatever the CPU says it can. What the libraries have for AVX2 and
# AVX-512 they choose at run time: in the disassembly of ScaNN 1.4.2's library, FMA stands
# in functions of no instruction set's namespace, AVX2 only behind `scann::avx2`.
CPU_FLAGS = {"tensorflow": ("avx",), "scann": ("avx", "fma")}
EMBEDDED = "embedded"

_STOCK = "tensorflow/serving"
_WITH_SCANN = ("google/tf-serving-scann",)
_IMAGE_FORM = (
    f"`{_STOCK}:2.20.0`, `{_STOCK}:2.20.0-gpu`, an image of your own whose tag begins "
    "with its TensorFlow version and, where it has ScaNN's ops, `+scann` behind it "
    f"(`me/serving:2.20.0+scann`), or `{EMBEDDED}`"
)


class Signature(BaseModel):
    """One signature: dtype and shape by name, such as `float32 [?, 8]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: dict[str, str]
    outputs: dict[str, str]


class ModelNeeds(BaseModel):
    """What one SavedModel needs of a server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tensorflow: str  # version that wrote it
    graph_version: int  # of the graph's format, as that TensorFlow writes it
    min_consumer: int  # the oldest format version whose readers may read it
    ops: tuple[str, ...]  # stock ones, of its functions too
    custom_ops: tuple[str, ...]
    signatures: dict[str, Signature]


class Compatibility(BaseModel):
    """What a release needs of a server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: dict[str, ModelNeeds]
    cpu_flags: dict[str, tuple[str, ...]]  # library -> what its machine code uses
    schema_hash: str | None  # SHA-256 of the raw features' schema; None: no parts


@dataclasses.dataclass(frozen=True)
class Server:
    """A server, as far as the rules know it.

    Attributes:
        name: as it was given.
        tensorflow: its version.
        has_scann: whether ScaNN's ops are in it.
        cpu_flags: of the machine it runs on; None where that is not known.
    """

    name: str
    tensorflow: Version
    has_scann: bool
    cpu_flags: Collection[str] | None = None


def server_of_image(image: str) -> Server:
    """Returns what an image's name says.

    Raises:
        ValueError: if it does not say which TensorFlow is in it.
    """
    place, has_mark, _ = image.partition("+scann")
    name, _, tag = place.rpartition(":")
    found = re.match(r"\d+\.\d+(\.\d+)?", tag)
    try:
        version = Version(found.group()) if found and name else None
    except InvalidVersion:
        version = None
    if version is None or (has_mark and not image.endswith("+scann")):
        raise ValueError(
            f"an image should be named like {_IMAGE_FORM}. Received: {image}"
        )
    is_stock = name.removeprefix("docker.io/") == _STOCK
    if is_stock and has_mark:
        raise ValueError(
            f"the stock image `{place}` has no ScaNN ops; give the name of one that has. "
            f"Received: {image}"
        )
    with_scann = bool(has_mark) or name.removeprefix("docker.io/") in _WITH_SCANN
    return Server(image, version, with_scann)


def refusals(needs: Compatibility, model: str, server: Server) -> list[str]:
    """Returns why a server cannot load a model; none where it can.

    Args:
        needs: of the release.
        model: one of its models.
        server: the server.
    """
    of_model = needs.models[model]
    found = []
    scann = [op for op in of_model.custom_ops if op.startswith(SCANN_OPS)]
    others = [op for op in of_model.custom_ops if op not in scann]
    if scann and not server.has_scann:
        found.append(f"it has no op {scann[0]}, which is ScaNN's")
    if others:
        found.append(f"no server is known to have the op {others[0]}")
    written = Version(of_model.tensorflow)
    if server.tensorflow.release[:2] < written.release[:2]:
        found.append(
            f"TensorFlow {written} wrote it, and {server.tensorflow} is older: only newer "
            "ones are promised to read it"
        )
    if server.cpu_flags is not None:
        libraries = ("tensorflow", "scann") if scann else ("tensorflow",)
        missing = {
            flag
            for library in libraries
            for flag in needs.cpu_flags.get(library, ())
            if flag not in server.cpu_flags
        }
        if missing:
            found.append(f"the CPU has no {', '.join(sorted(missing))}")
    return found


def differences(stated: Compatibility, seen: Compatibility) -> list[str]:
    """Returns where a manifest says other than the files do, a sentence each.

    Args:
        stated: by the manifest.
        seen: in the files.
    """
    found = []
    if set(stated.models) != set(seen.models):
        found.append(
            f"the manifest describes {sorted(stated.models)}, the files are of "
            f"{sorted(seen.models)}"
        )
    for model in sorted(set(stated.models) & set(seen.models)):
        said, is_so = stated.models[model], seen.models[model]
        for field in ModelNeeds.model_fields:
            if getattr(said, field) != getattr(is_so, field):
                found.append(
                    f"{model}: {field} is {_short(getattr(said, field))} in the manifest, "
                    f"{_short(getattr(is_so, field))} in saved_model.pb"
                )
    if stated.schema_hash != seen.schema_hash:
        found.append(
            f"schema_hash is {stated.schema_hash} in the manifest, {seen.schema_hash} of "
            "the schema in parts"
        )
    return found


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."

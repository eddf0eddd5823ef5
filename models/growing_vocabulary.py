"""Vocabularies that grow at their end, so that no known value's id ever moves.

TensorFlow Transform orders a vocabulary by frequency, so each analysis gives the values
other ids, and a table of trained vectors would be read by the wrong rows. Here a graph
that is known keeps its vocabularies as they stand, and the values that a newer graph
has besides come behind them. All else of the known graph stays too: the means and
deviations that numbers are scaled with are those that the weights were trained with.
"""

import json
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

_ASSET_MAP = Path("transformed_metadata") / "asset_map"  # vocabulary -> its file
_ASSETS = Path("transform_fn") / "assets"


def grow_transform_graph(known: Path, newer: Path, out: Path) -> dict[str, int]:
    """Writes a known transform graph with the values that a newer one has besides.

    Args:
        known: the graph that weights were trained with.
        newer: a graph of the same features, analysed since.
        out: where to write; must be empty or missing.

    Returns:
        by vocabulary, how many values are new.

    Raises:
        ValueError: if the graphs have other vocabularies.
    """
    files, newer_files = _vocabulary_files(known), _vocabulary_files(newer)
    if files.keys() != newer_files.keys():
        raise ValueError(
            f"`known` has the vocabularies {sorted(files)} and `newer` "
            f"{sorted(newer_files)}; only a graph of the same features can grow."
        )
    shutil.copytree(known, out, dirs_exist_ok=True)
    num_new = {}
    for name, file in files.items():
        before = _read_values(known / _ASSETS / file)
        values = grown(before, _read_values(newer / _ASSETS / newer_files[name]))
        (out / _ASSETS / file).write_bytes(b"".join(value + b"\n" for value in values))
        num_new[name] = len(values) - len(before)
    return num_new


def grown(known: Sequence[bytes], newer: Sequence[bytes]) -> list[bytes]:
    """Returns the known values in their order, then the new ones in theirs.

    Args:
        known: of the vocabulary so far.
        newer: of the vocabulary of a later analysis, the most frequent first.
    """
    if _is_placeholder(newer):
        return list(known)
    return list(dict.fromkeys([*known, *newer]))


def _is_placeholder(values: Sequence[bytes]) -> bool:
    """Whether the values are what Transform writes where it found none: a random UUID."""
    if len(values) != 1:
        return False
    try:
        return uuid.UUID(values[0].decode()).version == 4
    except ValueError:
        return False


def _vocabulary_files(graph: Path) -> dict[str, str]:
    return json.loads((graph / _ASSET_MAP).read_text())


def _read_values(file: Path) -> list[bytes]:
    # Not by `splitlines`: a lookup table splits at \n alone.
    return [value for value in file.read_bytes().split(b"\n") if value]

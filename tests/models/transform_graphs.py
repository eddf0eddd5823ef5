"""Transform graphs as analyses of other rows would have left them."""

import shutil
from pathlib import Path


def with_vocabularies(graph: Path, out: Path, values: dict[str, list[str]]) -> Path:
    """Copies a graph, with other values in some of its vocabularies."""
    shutil.copytree(graph, out)
    for name, known in values.items():
        file = out / "transform_fn" / "assets" / name
        file.write_text("".join(f"{value}\n" for value in known))
    return out

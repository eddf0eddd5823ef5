"""A config as a root folder reads it: with whole paths, and with what was replayed."""

from pathlib import Path

from components.ingestion.replay import REPLAYED_FILES
from components.ingestion.settings import Source
from components.ingestion.sources import sources_of
from pipeline.config import TandemConfig
from pipeline.layout import Layout


def with_absolute_paths(config: TandemConfig, root: Path) -> TandemConfig:
    """Returns the config with its relative paths of data started at `root`."""

    def absolute(path: str | None) -> str | None:
        return path if path is None or "://" in path else str(root / path)

    changed = {
        table: source.model_copy(
            update={
                "path": absolute(source.path),
                "replayed": absolute(source.replayed),
            }
        )
        for table, source in sources_of(config.data).items()
    }
    served = absolute(config.gates.data.serving_examples)
    data_gate = config.gates.data.model_copy(update={"serving_examples": served})
    gates = config.gates.model_copy(update={"data": data_gate})
    denied = absolute(config.candidates.deny_list)
    candidates = config.candidates.model_copy(update={"deny_list": denied})
    update = {"gates": gates, "candidates": candidates}
    return _with_sources(config, changed).model_copy(update=update)


def with_replayed(config: TandemConfig, layout: Layout) -> TandemConfig:
    """Returns the config with the mended dead letters that lie in the root, if any."""
    changed = {}
    for table, source in sources_of(config.data).items():
        folder = layout.replayed(config.name, table)
        if source.replayed is None and any(folder.glob(REPLAYED_FILES)):
            update = {"replayed": str(folder / REPLAYED_FILES)}
            changed[table] = source.model_copy(update=update)
    return _with_sources(config, changed)


def _with_sources(config: TandemConfig, sources: dict[str, Source]) -> TandemConfig:
    data = config.data.model_copy(update=sources)
    return config.model_copy(update={"data": data})

"""What a span's training starts from: the last blessed release, if there is one."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from models.growing_vocabulary import grow_transform_graph
from models.retrieval.checkpoint import TRANSFORM_GRAPH, find_checkpoint
from models.retrieval.settings import RetrievalSettings
from models.retrieval.warm_start import check_continuable, write_base
from schemas.features import FeatureCatalog


def continue_release(
    release: Path | None,
    analysed: Path,
    graph: Path,
    base: Path,
    settings: RetrievalSettings,
    catalog: FeatureCatalog,
    span_starts: Iterable[int],
    test_from: int,
) -> dict[str, int] | None:
    """Writes the transform graph and the base of a training that continues a release.

    Args:
        release: its folder, with a checkpoint; None where there is nothing to continue:
            the graph is then the analysed one, and the base is empty.
        analysed: the transform graph of the log as it is now.
        graph: receives the graph to train and to serve with.
        base: receives what the trainer starts from; must not exist.
        settings: of the retrieval model.
        catalog: the declared features.
        span_starts: ms, when the log's spans begin.
        test_from: ms; what training may learn from lies before it.

    Returns:
        by vocabulary, how many values are new since the release; None without one.

    Raises:
        ContinuationError: if the release cannot be continued under this config.
    """
    checkpoint = None if release is None else find_checkpoint(str(release))
    if checkpoint is None:
        shutil.copytree(analysed, graph, dirs_exist_ok=True)
        write_base(base, None, ())
        return None
    check_continuable(
        checkpoint, settings.model_dump(mode="json"), catalog, until=test_from
    )
    num_new = grow_transform_graph(checkpoint / TRANSFORM_GRAPH, analysed, graph)
    write_base(base, checkpoint, span_starts)
    return num_new

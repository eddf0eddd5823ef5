"""What a training starts from: the last blessed release, if there is one, and towers."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from models.bandit import bayesian_fm_release
from models.bandit.bayesian_fm_towers import BASE_TOWERS
from models.growing_vocabulary import grow_transform_graph
from models.ranking.settings import RankingSettings
from models.ranking.trainer import BASE_RANKER, find_base
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
    ranking: RankingSettings | None = None,
) -> dict[str, int] | None:
    """Writes the transform graph and the base of a training that continues a release.

    Args:
        release: its folder, with a checkpoint; None where there is nothing to continue:
            the graph is then the analysed one, and the base is empty.
        analysed: the transform graph of the log as it is now.
        graph: receives the graph to train and to serve with.
        base: receives what the trainers start from; must not exist.
        settings: of the retrieval model.
        catalog: the declared features.
        span_starts: ms, when the log's spans begin.
        test_from: ms; what training may learn from lies before it.
        ranking: settings of the ranker, to hand on the release's where it can learn on
            from that; None where it is trained anew.

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
    ranker = None if ranking is None else find_base(ranking, str(release))
    if ranker is not None:
        record = bayesian_fm_release.read_record(ranker)
        bayesian_fm_release.check_continuable(record, ranking, until=test_from)
    num_new = grow_transform_graph(checkpoint / TRANSFORM_GRAPH, analysed, graph)
    write_base(base, checkpoint, span_starts)
    if ranker is not None:
        shutil.copytree(ranker, base / BASE_RANKER)
    return num_new


def write_ranking_base(towers: Path, continued: Path | None, base: Path) -> None:
    """Writes the base of a ranker that reads the vectors of two towers.

    Args:
        towers: SavedModel of the retrieval model.
        continued: the base that `continue_release` wrote, if training goes on.
        base: receives it all; must not exist.
    """
    shutil.copytree(towers, base / BASE_TOWERS)
    if continued is not None and (continued / BASE_RANKER).is_dir():
        shutil.copytree(continued / BASE_RANKER, base / BASE_RANKER)

"""What each option of the towers' loss does to recall, all else equal.

The two-tower model is trained with the default settings and with one change at a time, from
several seeds: on the power-law world whose truth is known (`benchmarks.power_law_world`;
its keys end in `_world`), and on movielens-100k, which Tandem's own pipeline brings up to
the transformed rows, as the product trains it. Recall is of the test split, in time after
all that was trained on. A difference is of the variant's mean over its seeds less the
default's, on the same contexts or test events; its 95 % interval is by drawing contexts, or
users. A trained model's outcome is kept in a folder under the temporary one, so a run that
was ended goes on where it was. `--quick` has the world alone, small, and one seed.
"""

import dataclasses
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import models  # noqa: F401  (sets the Keras switch, before TensorFlow is loaded)

import tensorflow as tf  # isort: skip

from benchmarks import power_law_world
from benchmarks.command_line import finish, parsed_arguments
from benchmarks.power_law_world import World
from benchmarks.result import Result, versions_of
from benchmarks.sampling_correction import Hits, Movielens, kept, sources_key
from models.retrieval import trainer
from models.retrieval.intervals import UserBootstrap
from models.retrieval.settings import RetrievalSettings
from models.retrieval.training_items import ItemPool
from models.retrieval.two_tower import TwoTower
from schemas.features import ITEM_ID, LABEL, REWARD

DATASET = "movielens-100k"
CUTOFFS = (10, 100)
DEFAULT = "default"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "plain": {"sampling_correction": False},
    "presence": {"sampling_measure": "presence"},
    "refined": {"refined_correction": True},
    "mixed_256": {"drawn_negatives": 256},
    "mixed_1024": {"drawn_negatives": 1024},
    "mixed_256_refined": {"drawn_negatives": 256, "refined_correction": True},
    "hard_64": {"hard_negatives": 64},
    "hard_256": {"hard_negatives": 256},
    "history_as_negatives": {"mask_history": False},
}


@dataclasses.dataclass(frozen=True)
class Scale:
    """Of the world, and whether movielens-100k is there too."""

    seeds: int
    contexts: int
    items: int
    events: int
    epochs: int
    has_movielens: bool


FULL = Scale(3, 500, 3_000, 200_000, 4, True)
QUICK = Scale(1, 100, 1_500, 20_000, 2, False)


@dataclasses.dataclass(frozen=True)
class KnownWorld:
    """A log of the known world; a hit is an item's share of its context's truth."""

    world: World
    scale: Scale

    @property
    def users(self) -> np.ndarray:
        """Returns [contexts], each its own."""
        return np.arange(self.world.num_contexts)

    def train(self, settings: RetrievalSettings) -> Hits:
        """Returns the recall in each context after a number of epochs."""
        contexts, items = self.world.events(self.scale.events, settings.seed)
        everything = np.arange(self.world.num_items)
        features = power_law_world.item_features(everything)
        tf.keras.utils.set_random_seed(settings.seed)
        towers = TwoTower(
            power_law_world.feature_space(self.world),
            settings,
            item_pool=ItemPool(
                tf.constant(everything.astype(str)), _constants(features)
            ),
        )
        towers.compile(trainer.make_optimizer(settings))
        ones = np.ones(len(items), np.float32)
        rows = tf.data.Dataset.from_tensor_slices(
            (
                power_law_world.query_features(contexts)
                | power_law_world.item_features(items),
                {ITEM_ID: items.astype(str), REWARD: ones, LABEL: ones},
            )
        )
        batches = rows.shuffle(len(items), seed=settings.seed).batch(
            settings.batch_size, drop_remainder=True
        )
        towers.fit(batches, epochs=self.scale.epochs, verbose=0)
        queries = towers.embed_query(
            _constants(power_law_world.query_features(self.users))
        )
        vectors = towers.embed_candidates(_constants(features))
        scores = tf.matmul(queries, vectors, transpose_b=True).numpy()
        return {k: self.world.recall(scores, k) for k in CUTOFFS}


def _constants(features: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in features.items()}


def all_hits(
    log: Movielens | KnownWorld, name: str, num_seeds: int, folder: Path, key: str
) -> dict[str, list[Hits]]:
    """Trains every variant from every seed, a seed at a time."""
    found: dict[str, list[Hits]] = {variant: [] for variant in VARIANTS}
    for seed in range(num_seeds):
        for variant, changed in VARIANTS.items():
            settings = RetrievalSettings(seed=seed, **changed)
            file = folder / f"{name}-{variant}-{seed}-{key}.npz"
            found[variant].append(kept(file, lambda s=settings: log.train(s)))
    return found


def figures(
    hits: dict[str, list[Hits]], users: np.ndarray, suffix: str
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns recalls, differences from the default, and their intervals.

    Args:
        hits: of each variant, from each seed.
        users: [n] whose event each hit is of.
        suffix: ends each key.
    """
    columns = {}
    for k in CUTOFFS:
        of_default = _mean_over_seeds(hits[DEFAULT], k)
        for variant, of_seeds in hits.items():
            recall = _mean_over_seeds(of_seeds, k)
            columns[f"recall@{k}_{variant}{suffix}"] = recall
            if variant != DEFAULT:
                key = f"recall@{k}_{variant}_minus_default{suffix}"
                columns[key] = recall - of_default
    bounds = UserBootstrap(users).intervals(np.stack([*columns.values()], axis=1))[0]
    means = {key: float(column.mean()) for key, column in columns.items()}
    intervals = {
        key: (min(float(low), means[key]), max(float(high), means[key]))
        for key, (low, high) in zip(columns, bounds, strict=True)
    }
    return means, intervals


def by_seed(hits: dict[str, list[Hits]], suffix: str) -> dict[str, list[float]]:
    """Returns each variant's recall from each seed."""
    return {
        f"recall@{k}_{variant}{suffix}": [float(of_seed[k].mean()) for of_seed in found]
        for variant, found in hits.items()
        for k in CUTOFFS
    }


def _mean_over_seeds(hits: list[Hits], k: int) -> np.ndarray:
    return np.mean([of_seed[k] for of_seed in hits], axis=0)


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("loss_ablation", __doc__)
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    folder = Path(tempfile.gettempdir()) / "tandem-bench-loss-ablation"
    folder.mkdir(exist_ok=True)
    key = sources_key(Path(__file__).read_text(), scale, arguments.seed)
    world = World.make(scale.contexts, scale.items, arguments.seed)
    logs: dict[str, Movielens | KnownWorld] = {"_world": KnownWorld(world, scale)}
    if scale.has_movielens:
        logs[""] = Movielens(folder, arguments.seed, DATASET)
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    seeds: dict[str, list[float]] = {}
    for suffix, log in logs.items():
        name = suffix.strip("_") or DATASET
        hits = all_hits(log, name, scale.seeds, folder, key)
        for total, part in zip(
            (values, intervals), figures(hits, log.users, suffix), strict=True
        ):
            total.update(part)
        seeds |= by_seed(hits, suffix)
    result = Result(
        name="loss_ablation",
        figures=values,
        intervals=intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "tf-keras", "numpy"),
        },
        data={
            **dataclasses.asdict(scale),
            "variants": VARIANTS,
            "by_seed": seeds,
            "seed": arguments.seed,
            "quick": arguments.quick,
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

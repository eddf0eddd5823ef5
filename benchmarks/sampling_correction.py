"""Does correcting the sampling of negatives help, at every temperature and cut-off?

The two-tower model is trained with and without `sampling_correction`, all else equal and
the temperature held, on a power-law world whose truth is known
(`benchmarks.power_law_world`) and on movielens-1m, cut in time. Its history encoder is the
paper's, a mean. Gains are relative, `corrected / plain - 1`, on the same test events; their 95 %
intervals are by drawing contexts, or users. A trained variant's outcome is kept in a folder
under the temporary one, so a run that was ended goes on where it was. `--quick` has a small
world alone.
"""

import dataclasses
import hashlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import models  # noqa: F401  (sets the Keras switch, before TensorFlow is loaded)

import tensorflow as tf  # isort: skip

from benchmarks import power_law_world
from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.plot import Plot
from benchmarks.power_law_world import World
from benchmarks.result import Result, versions_of
from models.retrieval import trainer
from models.retrieval.settings import HistoryEncoder, RetrievalSettings
from models.retrieval.two_tower import TwoTower
from schemas.features import ITEM_ID, LABEL, REWARD

ROOT = Path(__file__).parents[1]
TEMPERATURES = (0.05, 0.07, 0.1, 0.14)
CUTOFFS = (10, 50, 100)
VARIANTS = {"plain": False, "corrected": True}
_RESAMPLES = 1000
_PEEKED_SHARE = 0.1  # of a world's events, which say after how many epochs to stop


@dataclasses.dataclass(frozen=True)
class Scale:
    """Of the world, and whether movielens-1m is there too."""

    contexts: int
    items: int
    events: int
    max_epochs: int
    has_movielens: bool


FULL = Scale(2_000, 5_000, 1_000_000, 12, True)
QUICK = Scale(200, 1_000, 60_000, 4, False)

# [n] hits, or chances of one, of each cut-off; n contexts or events.
Hits = dict[int, np.ndarray]


def train_on_world(world: World, scale: Scale, settings: RetrievalSettings) -> Hits:
    """Returns the recall of a model trained on a log of the world, by context.

    The number of epochs is the one with the best recall@100 of events held out.
    """
    contexts, items = world.events(scale.events, seed=settings.seed)
    cut = round(scale.events * (1 - _PEEKED_SHARE))
    tf.keras.utils.set_random_seed(settings.seed)
    model = TwoTower(power_law_world.feature_space(world), settings)
    model.compile(trainer.make_optimizer(settings))
    rows = _world_rows(contexts[:cut], items[:cut])
    batches = rows.shuffle(cut, seed=settings.seed).batch(
        settings.batch_size, drop_remainder=True
    )
    best, found = -1.0, {}
    for _ in range(scale.max_epochs):
        model.fit(batches, epochs=1, verbose=0)
        scores = _world_scores(model, world)
        top = np.argpartition(-scores, 99, axis=1)[:, :100]
        seen = (top[contexts[cut:]] == items[cut:, np.newaxis]).any(axis=1).mean()
        if seen <= best:
            break
        best, found = seen, {k: world.recall(scores, k) for k in CUTOFFS}
    return found


def _world_rows(contexts: np.ndarray, items: np.ndarray) -> tf.data.Dataset:
    features = power_law_world.query_features(contexts)
    features |= power_law_world.item_features(items)
    ones = np.ones(len(items), np.float32)
    row = {ITEM_ID: items.astype(str), REWARD: ones, LABEL: ones}
    return tf.data.Dataset.from_tensor_slices((features, row))


def _world_scores(model: TwoTower, world: World) -> np.ndarray:
    def constants(features: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
        return {name: tf.constant(values) for name, values in features.items()}

    contexts = power_law_world.query_features(np.arange(world.num_contexts))
    items = power_law_world.item_features(np.arange(world.num_items))
    queries = model.embed_query(constants(contexts)).numpy()
    return queries @ model.embed_candidates(constants(items)).numpy().T


class Movielens:
    """A MovieLens log as ingested and transformed by Tandem's own pipeline.

    Args:
        folder: receives the root folder of the run, and the fetched dataset.
        seed: of the sampled test events.
        name: of the dataset, and of its config.
    """

    def __init__(self, folder: Path, seed: int, name: str = "movielens-1m"):
        from benchmarks.retrieval_data import Sizes, read_contest
        from benchmarks.retrieval_tandem import TRANSFORM, run_through
        from pipeline.config import load_config
        from pipeline.datasets import fetch

        directory = fetch(name, folder / "data", say).directory
        self.contest = read_contest(directory, Sizes(1, 30_000), seed)
        config = load_config(name)
        self._catalog = config.features
        self._folders = run_through(config, folder, TRANSFORM)
        self._logs = folder / "logs"

    @property
    def users(self) -> np.ndarray:
        """Returns [n] whose the test events are."""
        return self.contest.users[self.contest.test_rows]

    def train(self, settings: RetrievalSettings) -> Hits:
        """Returns the hits of a model trained as the product trains it."""
        from benchmarks.retrieval_contest import ranks
        from benchmarks.retrieval_tandem import ModelFiles, saved_model_scorer
        from components.read_examples import split_files
        from models.preprocessing import TransformGraph
        from models.retrieval.evaluation import recall_at

        transform = TransformGraph(self._folders["transform_graph"], self._catalog)
        files = [
            split_files(self._folders["interactions"], s) for s in ("train", "eval")
        ]
        epochs = trainer.find_num_epochs(settings, transform, *files, self._logs)
        model = trainer.fit(settings, transform, [*files[0], *files[1]], epochs, [])
        module = trainer.RetrievalModule(model, self._catalog, transform)
        with tempfile.TemporaryDirectory() as saved:
            tf.saved_model.save(module, saved, signatures=module.signatures())
            scorer = saved_model_scorer(
                self.contest,
                self.contest.final,
                ModelFiles(
                    self._folders["interactions"], self._folders["catalog"], saved
                ),
            )
            found = ranks(self.contest.final, scorer)
        return {k: recall_at(found, k) for k in CUTOFFS}


def kept(file: Path, train: Callable[[], Hits]) -> Hits:
    """Returns what is in the file, which is written first where it is not there."""
    if not file.exists():
        temporary = file.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, **{str(k): v for k, v in train().items()})
        temporary.replace(file)
    with np.load(file) as arrays:
        hits = {int(name): arrays[name] for name in arrays.files}
    shown = " ".join(f"{hits[k].mean():.4f}" for k in sorted(hits))
    say(f"  {file.stem}: {shown}")
    return hits


def all_hits(
    name: str, folder: Path, key: str, train: Callable[[RetrievalSettings], Hits]
) -> dict[tuple[str, float], Hits]:
    """Trains every variant at every temperature on one log."""
    found = {}
    for temperature in TEMPERATURES:
        for variant, is_corrected in VARIANTS.items():
            settings = RetrievalSettings(
                history_encoder=HistoryEncoder.MEAN,
                temperature=temperature,
                learn_temperature=False,
                sampling_correction=is_corrected,
            )
            file = folder / f"{name}-{variant}-{temperature}-{key}.npz"
            found[variant, temperature] = kept(file, lambda s=settings: train(s))
    return found


def figures(
    hits: dict[tuple[str, float], Hits], units: np.ndarray, suffix: str
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns recalls and relative gains, with intervals.

    Args:
        hits: by variant and temperature.
        units: [n] what is drawn for the intervals: the event's context or user.
        suffix: ends each key.
    """
    rng = np.random.default_rng(0)
    _, unit = np.unique(units, return_inverse=True)
    num_units = int(unit.max()) + 1
    drawn = rng.multinomial(
        num_units, np.full(num_units, 1 / num_units), size=_RESAMPLES
    ).astype(np.float64)
    counts = drawn @ np.bincount(unit)
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}

    def note(key: str, value: float, resampled: np.ndarray) -> None:
        values[key] = float(value)
        low, high = np.quantile(resampled, [0.025, 0.975])
        intervals[key] = (float(min(low, value)), float(max(high, value)))

    for temperature in TEMPERATURES:
        for k in CUTOFFS:
            mean, means = {}, {}
            for variant in VARIANTS:
                hit = hits[variant, temperature][k]
                mean[variant] = hit.mean()
                means[variant] = drawn @ np.bincount(unit, hit) / counts
                key = f"recall@{k}_{variant}_t{temperature}{suffix}"
                note(key, mean[variant], means[variant])
            note(
                f"recall@{k}_gain_t{temperature}{suffix}",
                mean["corrected"] / mean["plain"] - 1,
                means["corrected"] / means["plain"] - 1,
            )
    return values, intervals


def least_gains(
    values: dict[str, float], intervals: dict[str, tuple[float, float]]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns the smallest gain at each cut-off, over temperatures and logs."""
    least, bounds = {}, {}
    for k in CUTOFFS:
        gains = {
            key: v for key, v in values.items() if key.startswith(f"recall@{k}_gain_")
        }
        smallest = min(gains, key=gains.__getitem__)
        key = f"recall@{k}_corrected_min_gain"
        least[key], bounds[key] = gains[smallest], intervals[smallest]
    return least, bounds


def plot(values: dict[str, float], suffix: str, log: str) -> Plot:
    """Returns recall by temperature, with and without the correction."""
    return Plot(
        name=f"temperature{suffix}",
        title=f"{log}: recall by temperature",
        x_label="temperature",
        y_label="recall@k",
        series={
            f"{variant}, k = {k}": [
                (t, values[f"recall@{k}_{variant}_t{t}{suffix}"]) for t in TEMPERATURES
            ]
            for k in CUTOFFS
            for variant in VARIANTS
        },
    )


def sources_key(*facts: object) -> str:
    """Returns what tells outcomes of other sources or data apart."""
    sources = [Path(__file__), Path(power_law_world.__file__)]
    sources += sorted((ROOT / "models").rglob("*.py"))
    text = "\0".join([*(file.read_text() for file in sources), *map(str, facts)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("sampling_correction", __doc__)
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    folder = Path(tempfile.gettempdir()) / "tandem-bench-sampling-correction"
    folder.mkdir(exist_ok=True)
    key = sources_key(scale, arguments.seed)
    world = World.make(scale.contexts, scale.items, arguments.seed)
    hits = all_hits("world", folder, key, lambda s: train_on_world(world, scale, s))
    values, intervals = figures(hits, np.arange(scale.contexts), "_world")
    for k in CUTOFFS:
        best = world.recall(world.conditional, k)
        values[f"recall@{k}_truth_world"] = float(best.mean())
    plots = [plot(values, "_world", "power-law world")]
    if scale.has_movielens:
        log = Movielens(folder, arguments.seed)
        hits = all_hits("movielens-1m", folder, key, log.train)
        for total, part in zip(
            (values, intervals), figures(hits, log.users, ""), strict=True
        ):
            total.update(part)
        plots.append(plot(values, "", "movielens-1m"))
    least, bounds = least_gains(values, intervals)
    result = Result(
        name="sampling_correction",
        figures=least | values,
        intervals=bounds | intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "tf-keras", "numpy"),
        },
        data={
            **dataclasses.asdict(scale),
            "temperatures": TEMPERATURES,
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [drawn.model_dump() for drawn in plots],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

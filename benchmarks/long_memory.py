"""Which ranker remembers what was 1, 50 or 500 events ago?

Every model of `ranking.model` is trained on the world of `benchmarks.long_memory_world`,
whose labels depend on the order of two events: on the same rows in the same order, by the
same optimizer for the same number of steps, each with its own default sizes (HPMN's periods
go up to about a tenth of the longest lag). AUC is on fresh rows, by lag, with 95 % intervals
by drawing rows; differences are paired. A model may need more steps than it got: a plot has
the way there. `attention_lag*` says which layer HPMN reads, 1 the lowest. A trained model's
outcome is kept in a folder under the temporary one, so a run that was ended goes on where it
was. `--quick` has three models and lags of 1, 10 and 50.
"""

import dataclasses
import hashlib
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import models  # noqa: F401  (sets the Keras switch, before TensorFlow is loaded)

import tensorflow as tf  # isort: skip

from benchmarks import long_memory_world
from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.long_memory_world import Rows, World
from benchmarks.plot import Plot
from benchmarks.result import Result, versions_of
from models.ranking.evaluation import GroupAuc, interval
from models.ranking.ranker import Ranker
from models.ranking.registry import make_ranker
from models.ranking.settings import Model, RankingSettings

ROOT = Path(__file__).parents[1]
BATCH_SIZE = 128
LEARNING_RATE = 0.003
LARGEST_GRADIENT = 1.0  # norm; thousands of recurrent steps may make it any
CHECKPOINTS = 10
_PEEKED = 1500  # test rows that AUC on the way is of
_SCORED_AT_ONCE = 500
_RESAMPLES = 500


@dataclasses.dataclass(frozen=True)
class Scale:
    """How long the memory has to be, and what is spent on it."""

    lags: tuple[int, ...]
    models: tuple[str, ...]
    steps: int
    test_rows: int
    periods: tuple[int, ...]


FULL = Scale(
    (1, 50, 500),
    # All that learn by gradients of a loss.
    tuple(model.value for model in Model if model is not Model.BAYESIAN_FM),
    2_000,
    12_000,
    (1, 2, 4, 8, 16, 32, 64),
)
QUICK = Scale((1, 10, 50), ("dnn", "gru4rec", "hpmn"), 300, 3_000, (1, 2, 4, 8))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trained model says of the test rows.

    Attributes:
        logits: [n].
        attention: [n, D] how much each layer was read, from the lowest; D is 0 where a
            model has none.
        learning: [checkpoints, lags] AUC of the first test rows on the way, at equal
            distances.
        train_s: seconds of CPU that training took, the checkpoints included.
        parameters: number of weights.
    """

    logits: np.ndarray
    attention: np.ndarray
    learning: np.ndarray
    train_s: np.ndarray
    parameters: np.ndarray


def ranking_settings(name: str, scale: Scale) -> RankingSettings:
    """Returns a model's default settings, and HPMN's periods."""
    sections = {"hpmn": {"periods": scale.periods}}
    return RankingSettings(model=name, **{name: sections.get(name, {})})


def trained(
    name: str, world: World, scale: Scale, seed: int, test: Rows
) -> tuple[Ranker, np.ndarray]:
    """Returns a model trained on rows of the world, and `Outcome.learning`."""
    tf.keras.utils.set_random_seed(seed)
    settings = ranking_settings(name, scale)
    model = make_ranker(world.feature_space(), settings)
    optimizer = model.make_optimizer(lambda rate: rate) or tf.keras.optimizers.Adam(
        LEARNING_RATE, global_clipnorm=LARGEST_GRADIENT
    )

    @tf.function
    def step(features: dict, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(features, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            total = tf.reduce_mean(losses) + tf.add_n([0.0, *model.losses])
        variables = model.trainable_variables
        gradients = tape.gradient(total, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return tf.reduce_mean(losses)

    rng = np.random.default_rng([seed, 1])
    peeked = Rows(*(part[:_PEEKED] for part in dataclasses.astuple(test)))
    learning = []
    for number in range(1, scale.steps + 1):
        rows = world.draw(BATCH_SIZE, rng)
        features = {key: tf.constant(v) for key, v in rows.features().items()}
        loss = step(features, tf.constant(rows.label, tf.float32))
        if number % (scale.steps // CHECKPOINTS) == 0:
            logits, _ = read(model, peeked)
            learning.append(aucs_by_lag(world.lags, peeked, logits)())
            shown = " ".join(f"{auc:.3f}" for auc in learning[-1])
            say(f"  {name}: step {number}, log loss {loss:.3f}, AUC by lag {shown}")
    return model, np.stack(learning)


def aucs_by_lag(lags: tuple[int, ...], rows: Rows, logits: np.ndarray) -> GroupAuc:
    """Returns what measures the AUC of the rows of each lag."""
    return GroupAuc(rows.label, logits, np.searchsorted(lags, rows.lag), len(lags))


def read(model: Ranker, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Returns logits [n], and attention [n, D] as of `Outcome`."""
    if not hasattr(model, "read_with_attention"):
        logits = np.concatenate([model(part).numpy() for part in _parts(rows)])
        return logits, np.zeros([len(logits), 0])
    found = [model.read_with_attention(part) for part in _parts(rows)]
    logits = np.concatenate([logits for logits, _ in found])
    return logits, np.concatenate([tf.reduce_mean(w, axis=1) for _, w in found])


def outcome(name: str, world: World, scale: Scale, seed: int, test: Rows) -> Outcome:
    """Trains a model and returns what it says of the test rows."""
    begin = time.process_time()
    model, learning = trained(name, world, scale, seed, test)
    train_s = time.process_time() - begin
    logits, attention = read(model, test)
    size = np.array(model.count_params())
    return Outcome(logits, attention, learning, np.array(train_s), size)


def _parts(rows: Rows) -> Iterator[dict[str, tf.Tensor]]:
    features = rows.features()
    for first in range(0, len(rows.label), _SCORED_AT_ONCE):
        yield {
            key: tf.constant(values[first : first + _SCORED_AT_ONCE])
            for key, values in features.items()
        }


def kept(file: Path, *arguments) -> Outcome:
    """Returns the `outcome` in the file, which is written first where it is not there."""
    if not file.exists():
        temporary = file.with_suffix(".tmp.npz")
        found = outcome(*arguments)
        np.savez_compressed(temporary, **dataclasses.asdict(found))
        temporary.replace(file)
    with np.load(file) as arrays:
        return Outcome(**{name: arrays[name] for name in arrays.files})


class Figures:
    """Collects figures and their intervals.

    Args:
        rows: what was scored.
        lags: of the world.
        outcomes: by the name of the model.
        seed: of the rows drawn for the intervals.
    """

    def __init__(
        self,
        rows: Rows,
        lags: tuple[int, ...],
        outcomes: dict[str, Outcome],
        seed: int = 0,
    ) -> None:
        self.values: dict[str, float] = {}
        self.intervals: dict[str, tuple[float, float]] = {}
        self._lags = lags
        self._group = np.searchsorted(lags, rows.lag)
        size = len(rows.label)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(size, np.full(size, 1 / size), _RESAMPLES)
        self._drawn = drawn.astype(np.float64)
        aucs = {
            name: self._aucs(rows, found.logits) for name, found in outcomes.items()
        }
        for name, (auc, resampled) in aucs.items():
            for place, lag in enumerate(lags):
                self._note(f"auc_lag{lag}_{name}", auc[place], resampled[:, place])
        self._compare_with_hpmn(aucs)
        for name, found in outcomes.items():
            self.values[f"train_cpu_s_{name}"] = float(found.train_s)
            self.values[f"parameters_{name}"] = float(found.parameters)
            if found.attention.size:
                self._note_layers(found.attention)

    def _aucs(self, rows: Rows, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        measure = aucs_by_lag(self._lags, rows, logits)
        return measure(), measure(self._drawn)

    def _note(self, key: str, value: float, resampled: np.ndarray) -> None:
        low, high = interval(resampled)
        self.values[key] = float(value)
        self.intervals[key] = (float(min(low, value)), float(max(high, value)))

    def _compare_with_hpmn(self, aucs: dict) -> None:
        """Notes HPMN's AUC less the best of the others', by lag."""
        others = [name for name in aucs if name != "hpmn"]
        if "hpmn" not in aucs or not others:
            return
        own, own_resampled = aucs["hpmn"]
        for place, lag in enumerate(self._lags):
            best = max(others, key=lambda name: aucs[name][0][place])
            auc, resampled = aucs[best]
            self._note(
                f"auc_lag{lag}_hpmn_minus_best_other",
                own[place] - auc[place],
                own_resampled[:, place] - resampled[:, place],
            )

    def _note_layers(self, attention: np.ndarray) -> None:
        """Notes how much each layer is read, and the mean layer, by lag."""
        layers = np.arange(1, attention.shape[1] + 1)
        mean_layer, by_lag = attention @ layers, []
        for place, lag in enumerate(self._lags):
            rows = self._group == place
            weights = self._drawn[:, rows]
            resampled = weights @ mean_layer[rows] / weights.sum(axis=1)
            by_lag.append((mean_layer[rows].mean(), resampled))
            self._note(f"attention_lag{lag}", *by_lag[-1])
            for layer, share in zip(layers, attention[rows].mean(axis=0), strict=True):
                self.values[f"attention_lag{lag}_layer{layer}"] = float(share)
        first, resampled_first = by_lag[0]
        for lag, (mean, resampled) in zip(self._lags[1:], by_lag[1:], strict=True):
            key = f"attention_lag{lag}_minus_lag{self._lags[0]}"
            self._note(key, mean - first, resampled - resampled_first)


def plots(figures: Figures, outcomes: dict[str, Outcome], scale: Scale) -> list[Plot]:
    """Returns AUC by lag, its way there, and HPMN's attention by layer."""
    values = figures.values
    steps = scale.steps // CHECKPOINTS * np.arange(1, CHECKPOINTS + 1)
    drawn = [
        Plot(
            name="auc",
            title="What is remembered, by how long ago it was",
            x_label="events since",
            y_label="AUC",
            series={
                name: [(lag, values[f"auc_lag{lag}_{name}"]) for lag in scale.lags]
                for name in scale.models
            },
            log_x=True,
        ),
        Plot(
            name="learning",
            title=f"What was {max(scale.lags)} events ago: AUC by training steps",
            x_label="steps",
            y_label="AUC",
            series={
                name: list(zip(steps.tolist(), found.learning[:, -1], strict=True))
                for name, found in outcomes.items()
            },
        ),
    ]
    if "hpmn" in scale.models:
        layers = range(1, len(scale.periods) + 1)
        drawn.append(
            Plot(
                name="attention",
                title="Which layer of HPMN is read, by how long ago it was",
                x_label="layer",
                y_label="share of attention",
                series={
                    f"lag {lag}": [
                        (layer, values[f"attention_lag{lag}_layer{layer}"])
                        for layer in layers
                    ]
                    for lag in scale.lags
                },
            )
        )
    return drawn


def sources_key(*facts: object) -> str:
    """Returns what tells outcomes of other sources or data apart."""
    sources = [Path(__file__), Path(long_memory_world.__file__)]
    sources += sorted((ROOT / "models").rglob("*.py"))
    text = "\0".join([*(file.read_text() for file in sources), *map(str, facts)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("long_memory", __doc__)
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    folder = Path(tempfile.gettempdir()) / "tandem-bench-long-memory"
    folder.mkdir(exist_ok=True)
    key = sources_key(scale, arguments.seed)
    world = World(scale.lags)
    test = world.draw(scale.test_rows, np.random.default_rng([arguments.seed, 2]))
    outcomes = {}
    for name in scale.models:
        say(f"{name}")
        file = folder / f"{name}-{key}.npz"
        outcomes[name] = kept(file, name, world, scale, arguments.seed, test)
    figures = Figures(test, scale.lags, outcomes)
    result = Result(
        name="long_memory",
        figures=figures.values,
        intervals=figures.intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "tf-keras", "numpy"),
        },
        data={
            **dataclasses.asdict(scale),
            **dataclasses.asdict(world),
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [plot.model_dump() for plot in plots(figures, outcomes, scale)],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

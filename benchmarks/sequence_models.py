"""Which ranker reads long real histories best?

Every model of `ranking.model` is trained on the same rows of The Complete Journey
(`benchmarks.sequence_data` has the protocol), in the same order, by the same optimizer, each
with its own default sizes (HPMN's periods go up to about a tenth of the longest history), and
keeps the weights that were best on the validation rows. On the test rows: AUC and log loss
with 95 % intervals by drawing households, HPMN's less the best of the others' on the same
draws, parameters, CPU seconds of training. Beside them the rankers that need no training:
popularity, and how often the household bought the product (`times_bought`). A trained
model's outcome is kept in a folder under the temporary one, so a run that was ended goes on
where it was. `--quick` has three models, fewer rows and histories of at most 100.
"""

import dataclasses
import hashlib
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import models as _models  # noqa: F401  (sets the Keras switch, before TensorFlow)

import tensorflow as tf  # isort: skip

from benchmarks import sequence_data
from benchmarks.command_line import finish, parser_of, say
from benchmarks.result import Result, versions_of
from benchmarks.sequence_data import Log, Rows, batches, draw_rows, histories
from models.feature_space import FeatureSpace
from models.ranking.evaluation import GroupAuc, interval, log_losses, resample
from models.ranking.ranker import Ranker, Tensors
from models.ranking.registry import make_ranker
from models.ranking.settings import Model, RankingSettings
from models.retrieval.intervals import UserBootstrap
from schemas.features import Feature, FeatureCatalog, FeatureKind, Side

Read = Callable[[Tensors], tf.Tensor]
ROOT = Path(__file__).parents[1]
BATCH_SIZE = 128
LEARNING_RATE = 0.001
LARGEST_GRADIENT = 1.0  # norm; a thousand recurrent steps may make it any
CHECKPOINTS = 8
_SCORED_AT_ONCE = 500
_RESAMPLES = 1000
_ONE_PASS = ("bayesian_fm",)  # learns by another rule than gradients of a loss


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is learnt from, and how long histories are.

    Attributes:
        models: which.
        positives: of the train, validation and test rows; each has a negative.
        epochs: passes over the train rows.
        min_history, max_history: purchases.
        periods: HPMN's.
    """

    models: tuple[str, ...]
    positives: tuple[int, int, int]
    epochs: int
    min_history: int
    max_history: int
    periods: tuple[int, ...]


FULL = Scale(
    tuple(model.value for model in Model if model.value not in _ONE_PASS),
    (32_000, 2_000, 10_000),
    3,
    20,
    1_000,
    (1, 2, 4, 8, 16, 32, 64),
)
QUICK = Scale(("dnn", "svdpp", "hpmn"), (2_000, 400, 1_000), 1, 20, 100, (1, 2, 4, 8))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a trained model says of the test rows.

    Attributes:
        logits: [n].
        learning: [checkpoints] log loss of the validation rows on the way.
        train_s: CPU seconds of training, the checkpoints included.
        parameters: number of weights.
    """

    logits: np.ndarray
    learning: np.ndarray
    train_s: np.ndarray
    parameters: np.ndarray


class Tables:
    """The log as models read it: ids and features by the numbers of users and items."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self._users, self._items = log.ids("users"), log.ids("items")
        self.space = self._space()
        # What a history knows of its items: of those that have an id of their own.
        known = np.flatnonzero(self._items > sequence_data.ID_BUCKETS)
        known = known[np.argsort(self._items[known])]
        self.items = _constants(self._item_tensors(known))

    def features(self, rows: Rows) -> Tensors:
        """Returns the transformed tensors of rows."""
        ids = histories(self.log.items, rows)
        read = {
            f"user_{n}_xf": v[rows.users] for n, v in self.log.user_features.items()
        }
        read |= self._item_tensors(rows.candidates)
        read["user_id_xf"] = self._users[rows.users]
        read["history_item_ids_xf"] = np.where(ids < 0, 0, self._items[ids])
        return _constants(read)

    def _item_tensors(self, items: np.ndarray) -> dict[str, np.ndarray]:
        features = self.log.item_features.items()
        tensors = {f"item_{name}_xf": values[items] for name, values in features}
        return tensors | {"item_id_xf": self._items[items]}

    def _space(self) -> FeatureSpace:
        sides = {Side.USER: self.log.user_features, Side.ITEM: self.log.item_features}
        sizes = {"user_id": self._users.max(), "item_id": self._items.max()}
        sizes = {
            key: int(size) - sequence_data.ID_BUCKETS for key, size in sizes.items()
        }
        declared = {}
        for side, features in sides.items():
            declared[side.value] = tuple(
                Feature(name=name, kind=FeatureKind.CATEGORICAL, hash_buckets=1)
                for name in features
            )
            sizes |= {
                f"{side.value}_{name}": max(0, int(values.max()) - 1)
                for name, values in features.items()
            }
        catalog = FeatureCatalog(id_hash_buckets=sequence_data.ID_BUCKETS, **declared)
        return FeatureSpace.from_vocabulary_sizes(catalog, sizes)


def _constants(arrays: dict[str, np.ndarray]) -> Tensors:
    return {name: tf.constant(values, tf.int64) for name, values in arrays.items()}


def ranking_settings(name: str, scale: Scale) -> RankingSettings:
    """Returns a model's default settings, HPMN's periods and DIEN's start."""
    sections = {"hpmn": {"periods": scale.periods}, "dien": {"embedding_stddev": 0.5}}
    return RankingSettings(model=name, **{name: sections.get(name, {})})


def trained(
    name: str, tables: Tables, scale: Scale, seed: int, train: Rows, validation: Rows
) -> tuple[Ranker, np.ndarray]:
    """Returns a model with its best weights, and `Outcome.learning`."""
    tf.keras.utils.set_random_seed(seed)
    model = make_ranker(tables.space, ranking_settings(name, scale), tables.items)
    optimizer = model.make_optimizer(lambda rate: rate) or tf.keras.optimizers.Adam(
        LEARNING_RATE, global_clipnorm=LARGEST_GRADIENT
    )

    @tf.function(reduce_retracing=True)
    def step(features: Tensors, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(features, training=True)
            losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
            total = tf.reduce_mean(losses) + tf.add_n([0.0, *model.losses])
        variables = model.trainable_variables
        gradients = tape.gradient(total, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return tf.reduce_mean(losses)

    read = reader(model)
    rng = np.random.default_rng([seed, 1])
    steps = [p for _ in range(scale.epochs) for p in batches(train, BATCH_SIZE, rng)]
    learning: list[float] = []
    best = None
    for number, places in enumerate(steps, start=1):
        rows = train[places]
        loss = step(tables.features(rows), tf.constant(rows.labels, tf.float32))
        if number % max(1, len(steps) // CHECKPOINTS) == 0 or number == len(steps):
            prob = _probabilities(score(read, tables, validation))
            learning.append(float(log_losses(validation.labels, prob).mean()))
            if learning[-1] == min(learning):
                best = model.get_weights()
            say(f"  {name}: step {number}, {loss:.4f}, validation {learning[-1]:.4f}")
    model.set_weights(best)
    return model, np.array(learning)


def reader(model: Ranker) -> Read:
    """Returns what scores rows by a graph that is traced once."""
    return tf.function(lambda features: model(features), reduce_retracing=True)


def score(read: Read, tables: Tables, rows: Rows) -> np.ndarray:
    """Returns the rows' logits [n]; rows of like length are read together."""
    logits = np.zeros(len(rows))
    for places in _parts(rows):
        logits[places] = read(tables.features(rows[places])).numpy()
    return logits


def _parts(rows: Rows) -> Iterator[np.ndarray]:
    order = np.argsort(rows.lengths, kind="stable")
    for start in range(0, len(rows), _SCORED_AT_ONCE):
        yield order[start : start + _SCORED_AT_ONCE]


def outcome(
    name: str, tables: Tables, scale: Scale, seed: int, splits: tuple[Rows, Rows, Rows]
) -> Outcome:
    """Trains a model and returns what it says of the test rows."""
    train, validation, test = splits
    begin = time.process_time()
    model, learning = trained(name, tables, scale, seed, train, validation)
    train_s = np.array(time.process_time() - begin)
    logits = score(reader(model), tables, test)
    return Outcome(logits, learning, train_s, np.array(model.count_params()))


def kept(file: Path, *arguments) -> Outcome:
    """Returns the `outcome` in the file, which is written first where it is not there."""
    if not file.exists():
        temporary = file.with_suffix(".tmp.npz")
        found = outcome(*arguments)
        np.savez_compressed(temporary, **dataclasses.asdict(found))
        temporary.replace(file)
    with np.load(file) as arrays:
        return Outcome(**{name: arrays[name] for name in arrays.files})


def _probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


class Figures:
    """Collects figures and their intervals, households resampled.

    Args:
        rows: what was scored.
        outcomes: by the name of the model.
        untrained: scores [n] by the name of a ranker without training; they are no
            probabilities, so they have an AUC alone.
        seed: of the draws.
    """

    def __init__(
        self,
        rows: Rows,
        outcomes: dict[str, Outcome],
        untrained: dict[str, np.ndarray],
        seed: int = 0,
    ) -> None:
        self.values: dict[str, float] = {}
        self.intervals: dict[str, tuple[float, float]] = {}
        self._rows = rows
        self._draws = UserBootstrap(rows.users, seed, _RESAMPLES)
        found = {
            name: self._measure(name, _probabilities(o.logits))
            for name, o in outcomes.items()
        }
        for name, scores in untrained.items():
            self._measure(name, scores, is_probability=False)
        self._compare_with_hpmn(found)
        for name, one in outcomes.items():
            self.values[f"train_cpu_s_{name}"] = float(one.train_s)
            self.values[f"parameters_{name}"] = float(one.parameters)

    def _measure(
        self, name: str, predictions: np.ndarray, is_probability: bool = True
    ) -> dict[str, np.ndarray]:
        labels, users = self._rows.labels, self._rows.users
        drawn = resample(labels, predictions, users, self._draws, {})
        auc = GroupAuc(labels, predictions)().squeeze()
        self._note(f"auc_{name}", auc, drawn.auc)
        if is_probability:
            loss = log_losses(labels, predictions).mean()
            self._note(f"logloss_{name}", loss, drawn.logloss)
        return {"auc": drawn.auc, "logloss": drawn.logloss}

    def _compare_with_hpmn(self, drawn: dict[str, dict[str, np.ndarray]]) -> None:
        """Notes HPMN's figures less those of the best of the other models."""
        others = [name for name in drawn if name != "hpmn"]
        if "hpmn" not in drawn or not others:
            return
        for figure, best_of in (("auc", max), ("logloss", min)):
            best = best_of(others, key=lambda n, f=figure: self.values[f"{f}_{n}"])
            self._note(
                f"{figure}_hpmn_minus_best_other",
                self.values[f"{figure}_hpmn"] - self.values[f"{figure}_{best}"],
                drawn["hpmn"][figure] - drawn[best][figure],
            )

    def _note(self, key: str, value: float, resampled: np.ndarray) -> None:
        low, high = interval(resampled)
        self.values[key] = float(value)
        self.intervals[key] = (float(min(low, value)), float(max(high, value)))


def sources_key(*facts: object) -> str:
    """Returns what tells outcomes of other sources or data apart."""
    sources = [Path(__file__), Path(sequence_data.__file__)]
    for folder in ("layers", "losses", "ranking"):
        sources += sorted((ROOT / "models" / folder).rglob("*.py"))
    text = "\0".join([*(file.read_text() for file in sources), *map(str, facts)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    """Runs the benchmark as the command line says."""
    parser = parser_of("sequence_models", __doc__)
    parser.add_argument("--models", help="only these, with commas between")
    arguments = parser.parse_args()
    begin = time.monotonic()
    from pipeline.datasets import fetch

    scale = QUICK if arguments.quick else FULL
    if arguments.models:
        names = tuple(arguments.models.split(","))
        scale = dataclasses.replace(scale, models=names)
    folder = Path(tempfile.gettempdir()) / "tandem-bench-sequence-models"
    folder.mkdir(exist_ok=True)
    log = sequence_data.read_log(fetch("complete-journey", folder, say).directory)
    is_test = ~(log.is_train | log.is_validation)
    limits = (scale.min_history, scale.max_history)
    train, validation, test = (
        draw_rows(log, split, size, *limits, np.random.default_rng([arguments.seed, n]))
        for n, (split, size) in enumerate(
            zip(
                (log.is_train, log.is_validation, is_test), scale.positives, strict=True
            )
        )
    )
    tables = Tables(log)
    outcomes = {}
    for name in scale.models:
        say(name)
        key = sources_key(dataclasses.replace(scale, models=()), arguments.seed)
        outcomes[name] = kept(
            *(folder / f"{name}-{key}.npz", name, tables, scale, arguments.seed),
            (train, validation, test),
        )
    untrained = {
        "popularity": log.popularity[test.candidates].astype(float),
        "times_bought": sequence_data.times_bought(log.items, test).astype(float),
    }
    figures = Figures(test, outcomes, untrained)
    result = Result(
        name="sequence_models",
        figures=figures.values,
        intervals=figures.intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "tf-keras", "numpy"),
        },
        data={
            **dataclasses.asdict(scale),
            "dataset": "complete-journey",
            "purchases": len(log.users),
            "households": int(log.users.max()) + 1,
            "products": log.num_items,
            "rows": [len(train), len(validation), len(test)],
            "mean_history": float(test.lengths.mean()),
            "batch_size": BATCH_SIZE,
            "learning_rate": LEARNING_RATE,
            "seed": arguments.seed,
            "quick": arguments.quick,
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

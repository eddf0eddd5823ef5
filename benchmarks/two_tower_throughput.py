"""How fast does the two-tower model learn, and does its cost grow with the vocabulary?

Tandem's training step beside the same two towers under TensorFlow Recommenders' own task
(`tfrs.tasks.Retrieval`) with Keras's own optimizers, on the same batches in memory: what is
compared is the loss, the estimator of the sampling and the optimizer. Runs take turns in one
process. Costs are its CPU seconds; `_wall` is by the clock.

`tfrs` leaves out what Tandem's loss does by default: estimating and correcting the sampling,
and masking repeated and known positives. `unmasked` is Tandem without the last of these.
`tfrs_same_loss` is given all of it: sampling probabilities known beforehand, integer ids to
find duplicates by, and the mask of known positives by Tandem's own function.
"""

import dataclasses
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import models  # noqa: F401  (sets the Keras switch, before TensorFlow is loaded)

import tensorflow as tf  # isort: skip
import tensorflow_recommenders as tfrs  # isort: skip

from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.plot import Plot
from benchmarks.result import Result, medians, spreads, versions_of
from benchmarks.training_batches import batches, feature_space, item_features
from models.feature_space import FeatureSpace
from models.losses.replicas import fingerprints
from models.losses.softmax import is_known_positive
from models.retrieval.settings import Optimizer, RetrievalSettings
from models.retrieval.trainer import make_optimizer
from models.retrieval.two_tower import TwoTower
from models.training_input import Batch
from schemas.features import ITEM_ID

_MEMORY_BATCHES = 4
_WARM_UP_STEPS = 3
_ADAGRAD_RATE = 0.1  # the rate of TFRS's tutorial; it does not change the cost


@dataclasses.dataclass(frozen=True)
class Scale:
    """What is measured; vocabularies are of the item's id."""

    vocabulary: int
    batch_size: int
    steps: int  # of one turn
    turns: int
    batch_sizes: tuple[int, ...]
    vocabularies: tuple[int, ...]
    grown_dim: int  # of the embeddings where the vocabulary grows: ten million rows


FULL = Scale(
    vocabulary=10_000,
    batch_size=1024,
    steps=20,
    turns=7,
    batch_sizes=(256, 512, 1024, 2048, 4096, 8192),
    vocabularies=(10_000, 100_000, 1_000_000, 10_000_000),
    grown_dim=16,
)
QUICK = Scale(
    vocabulary=10_000,
    batch_size=1024,
    steps=5,
    turns=3,
    batch_sizes=(256, 2048),
    vocabularies=(2_000, 2_000_000),
    grown_dim=16,
)


@dataclasses.dataclass(frozen=True)
class World:
    """A log's features, and those of its items."""

    space: FeatureSpace
    items: dict

    @classmethod
    def make(cls, num_items: int) -> "World":
        space = feature_space(num_items)
        return cls(space, item_features(space))

    def batches(self, *args) -> list[Batch]:
        return batches(self.space, self.items, *args)

    def towers(self, settings: RetrievalSettings) -> TwoTower:
        items = self.items if settings.history_content else None
        return TwoTower(self.space, settings, items)


class PlainTfrs(tfrs.Model):
    """The towers of a `TwoTower` under TFRS's own retrieval task, all else left out."""

    def __init__(self, towers: TwoTower, temperature: float) -> None:
        super().__init__()
        self.towers = towers
        self.task = tfrs.tasks.Retrieval(temperature=temperature)

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        features, _ = inputs
        return self.task(
            self.towers.embed_query(features, training),
            self.towers.embed_candidates(features, training),
            compute_metrics=False,
        )


class MaskingTfrs(PlainTfrs):
    """The same, corrected and masked as far as TFRS's task can be told to."""

    def __init__(self, towers: TwoTower, temperature: float) -> None:
        super().__init__(towers, temperature)
        self.task = tfrs.tasks.Retrieval(
            temperature=temperature, remove_accidental_hits=True
        )

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        features, row = inputs
        space = self.towers.space
        is_known = is_known_positive(
            features[space.item_id.name], features[space.history_name]
        )
        num_rows = tf.shape(is_known)[0]
        own_stays = tf.zeros([num_rows], tf.bool)
        return self.task(
            self.towers.embed_query(features, training),
            self.towers.embed_candidates(features, training),
            candidate_sampling_probability=tf.fill([num_rows], 0.01),
            candidate_ids=fingerprints(row[ITEM_ID]),
            compute_metrics=False,
            score_mask=~tf.linalg.set_diag(is_known, own_stays),
        )


@dataclasses.dataclass
class Cost:
    """Seconds of one step, in each turn."""

    cpu: list[float] = dataclasses.field(default_factory=list)
    wall: list[float] = dataclasses.field(default_factory=list)


class Runner:
    """One model, ready to take steps on batches in memory."""

    def __init__(self, model: tf.keras.Model, data: Sequence[Batch]):
        self._step = tf.function(model.train_step, reduce_retracing=True)
        self._data = data
        self.cost = Cost()
        for number in range(_WARM_UP_STEPS):
            self._step(data[number % len(data)])

    def run(self, steps: int) -> None:
        """Takes steps and notes what one costs."""
        cpu, wall = time.process_time(), time.perf_counter()
        for number in range(steps):
            logs = self._step(self._data[number % len(self._data)])
        float(logs["loss"])  # waits for the last step
        self.cost.cpu.append((time.process_time() - cpu) / steps)
        self.cost.wall.append((time.perf_counter() - wall) / steps)


def tandem(world: World, settings: RetrievalSettings) -> tf.keras.Model:
    """Returns the model as the trainer compiles it."""
    model = world.towers(settings)
    model.compile(make_optimizer(settings))
    return model


def without_correction(world: World, settings: RetrievalSettings) -> tf.keras.Model:
    """Returns the model that neither estimates nor corrects."""
    model = world.towers(settings.model_copy(update={"sampling_correction": False}))
    model.frequency = lambda item_ids, training=False: None
    model.compile(make_optimizer(settings))
    return model


def under_tfrs(
    world: World, settings: RetrievalSettings, optimizer, kind: type = PlainTfrs
) -> tf.keras.Model:
    """Returns the same towers under TFRS's task."""
    model = kind(world.towers(settings), settings.temperature)
    model.compile(optimizer)
    return model


def keras_adamw(settings: RetrievalSettings) -> tf.keras.optimizers.Optimizer:
    """Returns what a user of TFRS takes where Tandem takes its own."""
    return tf.keras.optimizers.AdamW(settings.learning_rate, settings.weight_decay)


def take_turns(runners: Sequence[Runner], scale: Scale) -> None:
    """Has each run in turn, so that a busy moment hits all alike."""
    for _ in range(scale.turns):
        for runner in runners:
            runner.run(scale.steps)


def compared(scale: Scale, settings: RetrievalSettings) -> dict[str, Cost]:
    """Returns the cost of a step of each contender on the same batches."""
    world = World.make(scale.vocabulary)
    data = world.batches(scale.batch_size, _MEMORY_BATCHES)
    unmasked = settings.model_copy(update={"mask_history": False})
    adagrad = tf.keras.optimizers.Adagrad
    builders: dict[str, Callable[[], tf.keras.Model]] = {
        "tandem": lambda: tandem(world, settings),
        "without_correction": lambda: without_correction(world, settings),
        "unmasked": lambda: tandem(world, unmasked),
        "tfrs": lambda: under_tfrs(world, settings, keras_adamw(settings)),
        "tfrs_adagrad": lambda: under_tfrs(world, settings, adagrad(_ADAGRAD_RATE)),
        "tfrs_same_optimizer": lambda: under_tfrs(
            world, settings, make_optimizer(settings)
        ),
        "tfrs_same_loss": lambda: under_tfrs(
            world, settings, keras_adamw(settings), MaskingTfrs
        ),
    }
    runners = {}
    for name, build in builders.items():
        say(f"tracing {name}")
        runners[name] = Runner(build(), data)
    take_turns(list(runners.values()), scale)
    return {name: runner.cost for name, runner in runners.items()}


def by_batch_size(scale: Scale, settings: RetrievalSettings) -> dict[int, Cost]:
    """Returns the cost of Tandem's step by the size of the batch."""
    world = World.make(scale.vocabulary)
    runners = {}
    for size in scale.batch_sizes:
        say(f"tracing batches of {size}")
        model = tandem(world, settings.model_copy(update={"batch_size": size}))
        runners[size] = Runner(model, world.batches(size, 2))
    take_turns(list(runners.values()), dataclasses.replace(scale, steps=4, turns=3))
    return {size: runner.cost for size, runner in runners.items()}


def by_vocabulary(scale: Scale, settings: RetrievalSettings) -> dict[int, Cost]:
    """Returns the cost of Tandem's step by the size of the vocabulary.

    The batches are alike: the items that occur are as many, and as far apart as can be.
    """
    settings = settings.model_copy(update={"embedding_dim": scale.grown_dim})
    runners = {}
    for size in scale.vocabularies:
        say(f"tracing a vocabulary of {size:,}")
        world = World.make(size)
        data = world.batches(scale.batch_size, _MEMORY_BATCHES, scale.vocabularies[0])
        runners[size] = Runner(tandem(world, settings), data)
    take_turns(list(runners.values()), scale)
    return {size: runner.cost for size, runner in runners.items()}


def tfrs_growth(scale: Scale, settings: RetrievalSettings) -> dict[int, Cost]:
    """Returns the cost of TFRS's step on the smallest and the second largest one."""
    settings = settings.model_copy(update={"embedding_dim": scale.grown_dim})
    runners = {}
    for size in (scale.vocabularies[0], scale.vocabularies[-2]):
        say(f"tracing TFRS on a vocabulary of {size:,}")
        world = World.make(size)
        model = under_tfrs(world, settings, keras_adamw(settings))
        data = world.batches(scale.batch_size, 2, scale.vocabularies[0])
        runners[size] = Runner(model, data)
    take_turns(list(runners.values()), dataclasses.replace(scale, steps=4, turns=3))
    return {size: runner.cost for size, runner in runners.items()}


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Returns the ratio in each turn, whose runs followed one another."""
    return [a / b for a, b in zip(above, below, strict=True)]


def figures(
    contest: dict[str, Cost],
    sizes: dict[int, Cost],
    grown: dict[int, Cost],
    tfrs_grown: dict[int, Cost],
    batch_size: int,
) -> dict[str, list[float]]:
    """Returns what each figure came to in each turn."""
    ours = contest["tandem"]
    off = contest["without_correction"]
    found = {
        "samples_per_cpu_s": [batch_size / s for s in ours.cpu],
        "samples_per_s": [batch_size / s for s in ours.wall],
        "correction_overhead": [r - 1 for r in ratios(ours.cpu, off.cpu)],
        "correction_overhead_wall": [r - 1 for r in ratios(ours.wall, off.wall)],
    }
    unmasked = contest["unmasked"]
    found["masking_overhead"] = [r - 1 for r in ratios(ours.cpu, unmasked.cpu)]
    found["ratio_to_tfrs_unmasked"] = ratios(contest["tfrs"].cpu, unmasked.cpu)
    for name in ("tfrs", "tfrs_adagrad", "tfrs_same_optimizer", "tfrs_same_loss"):
        peer = contest[name]
        found[f"samples_per_cpu_s_{name}"] = [batch_size / s for s in peer.cpu]
        found[f"ratio_to_{name}"] = ratios(peer.cpu, ours.cpu)
        found[f"ratio_to_{name}_wall"] = ratios(peer.wall, ours.wall)
    for size, cost in sizes.items():
        found[f"samples_per_cpu_s_batch_{size}"] = [size / s for s in cost.cpu]
    for name, costs in (("", grown), ("_tfrs", tfrs_grown)):
        if not costs:
            continue
        for size, cost in costs.items():
            found[f"step_ms{name}_vocabulary_{size}"] = [1000 * s for s in cost.cpu]
        smallest, largest = min(costs), max(costs)
        found[f"growth_vocabulary_{largest // smallest}x{name}"] = ratios(
            costs[largest].cpu, costs[smallest].cpu
        )
    return found


def plots(found: dict[str, list[float]]) -> list[Plot]:
    """Returns throughput by batch size, and the cost of a step by vocabulary."""

    def line(begin: str) -> list[tuple[float, float]]:
        return [
            (float(key.removeprefix(begin)), statistics.median(values))
            for key, values in found.items()
            if key.startswith(begin)
        ]

    return [
        Plot(
            name="batch",
            title="Training speed by batch size",
            x_label="rows of a batch",
            y_label="samples per CPU second",
            series={"tandem": line("samples_per_cpu_s_batch_")},
            log_x=True,
        ),
        Plot(
            name="vocabulary",
            title="Cost of a training step by vocabulary",
            x_label="items",
            y_label="CPU ms of a step",
            series={
                name: points
                for name, points in (
                    ("tandem", line("step_ms_vocabulary_")),
                    ("TFRS, Keras AdamW", line("step_ms_tfrs_vocabulary_")),
                )
                if points
            },
            log_x=True,
            log_y=True,
        ),
    ]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("two_tower_throughput", __doc__)
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    tf.keras.utils.set_random_seed(arguments.seed)
    settings = RetrievalSettings(optimizer=Optimizer.SPARSE_ADAMW)
    found = figures(
        compared(scale, settings.model_copy(update={"batch_size": scale.batch_size})),
        by_batch_size(scale, settings),
        by_vocabulary(scale, settings),
        tfrs_growth(scale, settings) if len(scale.vocabularies) > 2 else {},
        scale.batch_size,
    )
    result = Result(
        name="two_tower_throughput",
        figures=medians(found),
        intervals=spreads(found),
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "tf-keras", "tensorflow-recommenders"),
        },
        data={
            **dataclasses.asdict(scale),
            "embedding_dim": settings.embedding_dim,
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [plot.model_dump() for plot in plots(found)],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""How exactly the frequency estimator follows a stream, and a stream that changes.

The simulation of Yi et al. (RecSys 2019, section 6.1): of 1,000 items, batches of 128 are
drawn without replacement, item i in proportion to i^2; at step 10,000 the order of the
items is turned round. The error is half the L1 distance between the estimated and the
true chances of being in a batch, by the batch's size. Tandem's layer does it on ids that
it hashes; beside it plain loops with random buckets, on the same batches.
"""

import dataclasses
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.frequency_loops import LoopEstimator
from benchmarks.plot import Plot
from benchmarks.result import Result, medians, spreads, versions_of
from benchmarks.targets import MOMENTS
from models.losses.frequency import StreamingFrequencyEstimator

NUM_ITEMS, BATCH_SIZE = 1000, 128
SWITCH = 10_000  # after this step the distribution is another
READ_EVERY = 1000
STEP_OF_MOMENT = dict(
    zip(MOMENTS, (1000, 5000, 10_000, 11_000, 15_000, 20_000), strict=True)
)


@dataclasses.dataclass(frozen=True)
class Setting:
    """An estimator's parameters, and the name of its figures."""

    alpha: float
    num_hashes: int = 1
    num_buckets: int = 5000  # of one array

    @property
    def key(self) -> str:
        more = "_20k" if self.num_hashes * self.num_buckets == 20_000 else ""
        return f"error_a{self.alpha:g}_m{self.num_hashes}{more}"

    def __str__(self) -> str:
        return f"alpha={self.alpha:g}, m={self.num_hashes}, H={self.num_buckets}"


BY_ALPHA = [Setting(alpha) for alpha in (0.1, 0.05, 0.02, 0.01, 0.005, 0.001)]
EQUAL_MEMORY = [Setting(0.01, m, 5000 // m) for m in (1, 2, 4)]
LARGER_MEMORY = [Setting(0.01, m, 20_000 // m) for m in (1, 2, 4)]
SETTINGS = list(dict.fromkeys([*BY_ALPHA, *EQUAL_MEMORY, *LARGER_MEMORY]))


@dataclasses.dataclass(frozen=True)
class Scale:
    """Which items collide moves an error by a tenth, so a seed has several hashings."""

    last_step: int
    seeds: int
    hashings: int


FULL = Scale(20_000, seeds=3, hashings=8)
QUICK = Scale(11_000, seeds=1, hashings=5)

Curves = dict[Setting, list[float]]  # the error after each READ_EVERY steps


def share_of_items(step: int) -> np.ndarray:
    """Returns how the items of the batch of a step, counted from 1, are drawn."""
    weight = np.arange(NUM_ITEMS) ** 2.0
    if step > SWITCH:
        weight = weight[::-1]
    return weight / weight.sum()


def drawn_batches(
    share: np.ndarray, num_steps: int, batch_size: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns int64 [num_steps, batch_size], each row drawn without replacement.

    The largest of log(share) + Gumbel noise are such a draw.
    """
    with np.errstate(divide="ignore"):  # log 0 = -inf is never among the largest
        keys = np.log(share) + rng.gumbel(size=(num_steps, len(share)))
    return np.argpartition(keys, -batch_size, axis=1)[:, -batch_size:]


def error(probabilities: np.ndarray, share: np.ndarray, batch_size: int) -> float:
    """Returns 1 / (2 |B|) * sum_i |p_i - |B| q_i|."""
    return float(np.abs(probabilities - batch_size * share).sum() / (2 * batch_size))


def chunks(last_step: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields READ_EVERY batches and the share they were drawn by, until `last_step`."""
    rng = np.random.default_rng(seed)
    for step in range(READ_EVERY, last_step + 1, READ_EVERY):
        share = share_of_items(step)
        yield drawn_batches(share, READ_EVERY, BATCH_SIZE, rng), share


class LayerSimulation:
    """Tandem's layer with each setting, on the same stream."""

    def __init__(self, settings: Sequence[Setting], make: Callable | None = None):
        make = make or StreamingFrequencyEstimator
        self._layers = {
            setting: make(
                num_buckets=setting.num_buckets,
                num_hashes=setting.num_hashes,
                alpha=setting.alpha,
            )
            for setting in settings
        }
        self._initial = [variable.numpy() for variable in self._variables()]

    def _variables(self) -> list[tf.Variable]:
        return [v for layer in self._layers.values() for v in layer.variables]

    def begin(self) -> None:
        """Forgets all batches."""
        for variable, value in zip(self._variables(), self._initial, strict=True):
            variable.assign(value)

    @tf.function(reduce_retracing=True)
    def count(self, batches: tf.Tensor) -> None:
        """Counts batches of ids [steps, batch], one step each."""
        for batch in batches:
            for layer in self._layers.values():
                layer(batch, training=True)

    def probabilities(self, item_ids: tf.Tensor) -> dict[Setting, np.ndarray]:
        return {
            setting: np.exp(layer(item_ids, training=False))
            for setting, layer in self._layers.items()
        }


def layer_curves(
    simulation: LayerSimulation, last_step: int, seed: int, first_id: int
) -> Curves:
    """Returns the layers' errors; another first id is another hashing of the items."""
    simulation.begin()
    ids = tf.range(first_id, first_id + NUM_ITEMS, dtype=tf.int64)
    found: Curves = {}
    for batches, share in chunks(last_step, seed):
        simulation.count(tf.constant(batches + first_id))
        for setting, estimate in simulation.probabilities(ids).items():
            found.setdefault(setting, []).append(error(estimate, share, BATCH_SIZE))
    return found


def loop_curves(settings: Sequence[Setting], last_step: int, seed: int) -> Curves:
    """Returns the errors of the plain loops."""
    rng = np.random.default_rng([seed, 1])
    loops = {
        setting: LoopEstimator(
            NUM_ITEMS, setting.num_buckets, setting.num_hashes, setting.alpha, rng
        )
        for setting in settings
    }
    found: Curves = {setting: [] for setting in settings}
    for batches, share in chunks(last_step, seed):
        for setting, loop in loops.items():
            loop.count(batches)
            found[setting].append(error(loop.probabilities(), share, BATCH_SIZE))
    return found


def mean_curves(runs: Sequence[Curves]) -> Curves:
    """Returns the mean error over runs, setting by setting and moment by moment."""
    return {
        setting: np.mean([run[setting] for run in runs], axis=0).tolist()
        for setting in runs[0]
    }


def figures(runs: Sequence[Curves]) -> dict[str, list[float]]:
    """Returns each figure in each of the runs: the error of a setting at a moment."""
    return {
        f"{setting.key}{moment}": [run[setting][step // READ_EVERY - 1] for run in runs]
        for setting, curve in runs[0].items()
        for moment, step in STEP_OF_MOMENT.items()
        if step <= len(curve) * READ_EVERY
    }


def plots(curves: Curves) -> list[Plot]:
    """Returns the paper's figures 4 and 5: by learning rate, and by number of hashes."""

    def plot(name, title, settings):
        return Plot(
            name=name,
            title=title,
            x_label="step; the distribution changes at 10,000",
            y_label="error",
            series={
                str(setting): [
                    (READ_EVERY * number, round(value, 4))
                    for number, value in enumerate(curves[setting], start=1)
                ]
                for setting in settings
            },
        )

    return [
        plot("alpha", "Error of estimated frequencies by learning rate", BY_ALPHA),
        plot(
            "hashes",
            "Error of estimated frequencies by number of hashes",
            [*EQUAL_MEMORY, *LARGER_MEMORY],
        ),
    ]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("frequency_estimator", __doc__)
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    simulation = LayerSimulation(SETTINGS)
    runs, loops = [], []
    for seed in range(arguments.seed, arguments.seed + scale.seeds):
        hashings = []
        for number in range(scale.hashings):
            first_id = NUM_ITEMS * (scale.hashings * seed + number)
            hashings.append(layer_curves(simulation, scale.last_step, seed, first_id))
            say(f"seed {seed}, hashing {number}: {time.monotonic() - begin:.0f} s")
        runs.append(mean_curves(hashings))
        loops.append(loop_curves(SETTINGS, scale.last_step, seed))
        say(f"seed {seed}, plain loops: {time.monotonic() - begin:.0f} s")
    found = figures(runs)
    beside = {key: round(median, 4) for key, median in medians(figures(loops)).items()}
    result = Result(
        name="frequency_estimator",
        figures=medians(found),
        intervals=spreads(found),
        versions={
            "python": platform.python_version(),
            **versions_of("numpy", "tensorflow"),
        },
        data={
            "items": NUM_ITEMS,
            "batch_size": BATCH_SIZE,
            **dataclasses.asdict(scale),
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plain_loops": beside,
            "plots": [plot.model_dump() for plot in plots(mean_curves(runs))],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

"""What does a request cost, by how long the user's history is?

A user with 10 to 10,000 events asks for a ranking of the same candidates. HPMN is served by
its memory (`score` of `models.ranking.memory_serving`): events were written as they came,
one `update_memory` each (`ms_update_hpmn`), and no request reads them again. DIEN reads the
whole history with every request, from its ids on. Both are saved, and run as a server runs
them: a session, one request at a time, on one core, untrained (weights cost the same whatever
they say), with the models' default sizes. Milliseconds are the median over requests, of CPU,
which on one core and a quiet machine is the time that passes; requests of all models and
lengths take turns. `--quick` has fewer requests and lengths up to 1,000.
"""

import dataclasses
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import models as _models  # noqa: F401  (sets the Keras switch, before TensorFlow)

import tensorflow as tf  # isort: skip

from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.plot import Plot
from benchmarks.result import Result, versions_of
from models.feature_space import FeatureSpace
from models.ranking.ranker import Ranker, Tensors
from models.ranking.registry import make_ranker
from models.ranking.settings import RankingSettings
from schemas.features import FeatureCatalog
from serving.saved_model import SavedModel

NUM_ITEMS, NUM_CANDIDATES = 50_000, 100
MODELS = ("hpmn", "dien")
_WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class Scale:
    """How long histories are, and how often each is asked."""

    lengths: tuple[int, ...]
    requests: int


FULL = Scale((10, 100, 1_000, 10_000), 40)
QUICK = Scale((10, 100, 1_000), 10)

Arrays = dict[str, np.ndarray]


class ByHistory(tf.Module):
    """Scores candidates by a history that the request brings along."""

    def __init__(self, model: Ranker) -> None:
        super().__init__(name="by_history")
        self._model = model

    def signatures(self) -> dict:
        """Returns `score`: history [1, T], user [1] and candidates [1, C] -> logits."""

        @tf.function(
            input_signature=[
                tf.TensorSpec([1], tf.int64, "user"),
                tf.TensorSpec([1, None], tf.int64, "history"),
                tf.TensorSpec([1, None], tf.int64, "candidates"),
            ]
        )
        def score(
            user: tf.Tensor, history: tf.Tensor, candidates: tf.Tensor
        ) -> Tensors:
            query = {"user_id_xf": user, "history_item_ids_xf": history}
            items = {"item_id_xf": candidates}
            return {"logits": self._model.score_candidates(query, items)}

        return {"score": score.get_concrete_function()}


class ByMemory(tf.Module):
    """Writes events into a memory, and scores candidates by it."""

    def __init__(self, model: Ranker) -> None:
        super().__init__(name="by_memory")
        self._model = model

    def signatures(self) -> dict:
        """Returns `update` of memory, step and item, and `score` of memory."""
        settings = self._model.settings
        shape = [1, len(settings.periods), settings.memory_units]
        memory_spec = tf.TensorSpec(shape, tf.float32, "memory")

        @tf.function(
            input_signature=[
                memory_spec,
                tf.TensorSpec([1], tf.int64, "step"),
                tf.TensorSpec([1], tf.int64, "item"),
            ]
        )
        def update(memory: tf.Tensor, step: tf.Tensor, item: tf.Tensor) -> Tensors:
            items = {"item_id_xf": item}
            memory, step = self._model.write_event(memory, step, items)
            return {"memory": memory, "step": step}

        @tf.function(
            input_signature=[
                memory_spec,
                tf.TensorSpec([1], tf.int64, "user"),
                tf.TensorSpec([1, None], tf.int64, "candidates"),
            ]
        )
        def score(memory: tf.Tensor, user: tf.Tensor, candidates: tf.Tensor) -> Tensors:
            history = tf.zeros([1, 0], tf.int64)
            query = {"user_id_xf": user, "history_item_ids_xf": history}
            items = {"item_id_xf": candidates}
            return {"logits": self._model.score_memory(memory, query, items)}

        return {
            "update": update.get_concrete_function(),
            "score": score.get_concrete_function(),
        }


def space() -> FeatureSpace:
    """Returns what both models read: ids alone."""
    catalog = FeatureCatalog(id_hash_buckets=1)
    sizes = {"user_id": 1000, "item_id": NUM_ITEMS}
    return FeatureSpace.from_vocabulary_sizes(catalog, sizes)


def saved(name: str, folder: Path) -> SavedModel:
    """Returns an untrained model, saved and loaded as a server loads it."""
    model = make_ranker(space(), RankingSettings(model=name))
    ids = tf.constant([2, 3], tf.int64)
    model({"user_id_xf": ids, "history_item_ids_xf": ids[:, None], "item_id_xf": ids})
    module = {"hpmn": ByMemory, "dien": ByHistory}[name](model)
    path = folder / name
    tf.saved_model.save(module, str(path), signatures=module.signatures())
    return SavedModel(path)


def written(model: SavedModel, history: np.ndarray) -> tuple[Arrays, list[float]]:
    """Returns the memory of a history [1, T], and the ms of CPU of each event."""
    tensor_shape = model.signatures["score"].inputs["memory"].tensor_shape
    shape = [dim.size for dim in tensor_shape.dim]
    state = {"memory": np.zeros(shape, np.float32), "step": np.zeros(1, np.int64)}
    spent = []
    for item in history[0]:
        inputs = {**state, "item": np.array([item])}
        begin = time.process_time()
        state = model.run("update", inputs)
        spent.append(1000 * (time.process_time() - begin))
    return state, spent


def in_turns(
    asked: dict[str, Callable[[], object]],
    requests: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Returns the ms of each call by its key, calls of all keys taking turns.

    The first calls are not counted.
    """
    spent: dict[str, list[float]] = {key: [] for key in asked}
    for number in range(_WARM_UP + requests):
        for key, ask in asked.items():
            begin = clock()
            ask()
            if number >= _WARM_UP:
                spent[key].append(1000 * (clock() - begin))
    return spent


def figures_of(
    spent: dict[str, list[float]], lengths: tuple[int, ...]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Returns medians with their quartiles, and how costs grow with the history."""
    values = {key: float(np.median(some)) for key, some in spent.items()}
    intervals = {
        key: tuple(np.quantile(some, (0.25, 0.75)).tolist())
        for key, some in spent.items()
    }
    for name in MODELS:
        first, last = (values[f"ms_{name}_{lengths[at]}"] for at in (0, -1))
        values[f"growth_{name}"] = last / first
    return values, intervals


def measured(scale: Scale, seed: int, folder: Path) -> dict[str, list[float]]:
    """Returns the ms of each request, by `ms_<model>_<length>`, and of updates."""
    hpmn, dien = (saved(name, folder) for name in MODELS)
    rng = np.random.default_rng(seed)
    candidates = rng.integers(2, NUM_ITEMS, (1, NUM_CANDIDATES))
    user = np.array([2])
    asked: dict[str, Callable[[], object]] = {}
    updates: list[float] = []
    for length in scale.lengths:
        say(f"  {length} events are written")
        history = rng.integers(2, NUM_ITEMS, (1, length))
        state, spent = written(hpmn, history)
        updates += spent[_WARM_UP:]
        common = {"user": user, "candidates": candidates}
        by_memory = {"memory": state["memory"], **common}
        by_history = {"history": history, **common}
        asked[f"ms_hpmn_{length}"] = lambda inputs=by_memory: hpmn.run("score", inputs)
        asked[f"ms_dien_{length}"] = lambda inputs=by_history: dien.run("score", inputs)
    return in_turns(asked, scale.requests) | {"ms_update_hpmn": updates}


def plot(values: dict[str, float], lengths: tuple[int, ...]) -> Plot:
    """Returns the cost of a request by the length of the history."""
    return Plot(
        name="ms",
        title=f"A request for {NUM_CANDIDATES} scores, by the user's history",
        x_label="events of the user",
        y_label="ms of one core",
        series={
            name: [(length, values[f"ms_{name}_{length}"]) for length in lengths]
            for name in MODELS
        },
        log_x=True,
        log_y=True,
    )


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("ranker_cost", __doc__)
    begin = time.monotonic()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    scale = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory(prefix="tandem-ranker-cost-") as folder:
        spent = measured(scale, arguments.seed, Path(folder))
    values, intervals = figures_of(spent, scale.lengths)
    result = Result(
        name="ranker_cost",
        figures=values,
        intervals=intervals,
        versions={
            "python": platform.python_version(),
            **versions_of("tensorflow", "tf-keras", "numpy"),
        },
        data={
            **dataclasses.asdict(scale),
            "items": NUM_ITEMS,
            "candidates": NUM_CANDIDATES,
            "seed": arguments.seed,
            "quick": arguments.quick,
            "plots": [plot(values, scale.lengths).model_dump()],
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

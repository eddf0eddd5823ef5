"""How does an answer's cost grow with the catalogue, and with the candidates that are ranked?

Releases over clustered unit vectors of 64 dimensions (`fresh_items_world`), exported as a pipeline
exports them, with the index that `index.kind: auto` chooses and tunes: exact below 20,000 items,
ScaNN above. `recommend` is asked for ten items by one user after the other, in this process,
through the session that a server runs. `ms_N` is the median time of a call of `recommender` over
N items, `ms_exact_N` of `recommender_exact`, which looks at each item; `ms_cC` is over 100,000
items with C candidates ranked. `exponent` is log(time) over log(items) from 1,000 to the largest
catalogue: below 1 a call costs less than in proportion.

It stops at 1M items: a release of 5M, made in one process with its exact twin, was stopped when
it had taken 6 GiB.
"""

import dataclasses
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import fresh_items_world as shop
from benchmarks.ann_world import World
from benchmarks.command_line import finish, parsed_arguments, say
from benchmarks.result import Result, versions_of

K = 10


@dataclasses.dataclass(frozen=True)
class Scale:
    """Which releases are asked, and how often."""

    catalogues: tuple[int, ...]
    candidates: tuple[int, ...]
    candidates_of: int  # items of the catalogue for those
    rounds: int = 5
    calls: int = 100  # of a model in a round


DEFAULT_CANDIDATES = 200
FULL = Scale((1_000, 10_000, 100_000, 1_000_000), (50, 500, 1_000), 100_000)
QUICK = Scale((1_000, 30_000), (50,), 1_000, rounds=3, calls=50)


def export(folder: Path, num_items: int, seed: int, candidates: tuple[int, ...]):
    """Exports releases that differ in how many candidates are ranked.

    Returns:
        (requests, the bundle's folder by number of candidates).
    """
    from components.build_index import ItemVectors
    from components.export_bundle import results_of, tuned_for
    from components.export_recommender import export_models, release_index

    world = World.draw(num_items, seed, num_queries=200)
    trained = shop.open_shop(folder, world)
    catalog = shop.write_items(folder / "catalog", range(num_items))
    vectors = ItemVectors([f"i{n}" for n in range(num_items)], world.items)
    bundles = {}
    for number in candidates:
        auto = shop.SETTINGS.index.model_copy(update={"kind": "auto"})
        settings = shop.SETTINGS.model_copy(
            update={"num_candidates": number, "index": auto}
        )
        index = release_index(
            vectors, world.tuning, tuned_for(settings, shop.GATE), results_of(settings)
        )
        bundles[number] = folder / f"bundle{number}"
        export_models(
            *(vectors, catalog, trained.made.stages(), settings),
            *(str(bundles[number]), index.built.index),
        )
    return trained.requests, bundles


def call_ms(models: dict[str, Path], requests, scale: Scale) -> dict[str, list[float]]:
    """Returns each model's median time of a call, in every round; models take turns."""
    from serving.saved_model import SavedModel

    inputs = [request.to_recommend(K, 0) for request in requests]
    loaded = {name: SavedModel(path) for name, path in models.items()}
    found: dict[str, list[float]] = {name: [] for name in models}
    for number in range(scale.rounds + 1):
        for name, model in loaded.items():
            taken = []
            for place in range(scale.calls):
                begin = time.perf_counter()
                model.run("recommend", inputs[place % len(inputs)])
                taken.append(1e3 * (time.perf_counter() - begin))
            if number:  # the first is to warm up
                found[name].append(statistics.median(taken))
    for model in loaded.values():
        model.close()
    return found


def exponent(ms: dict[int, float]) -> float:
    """Returns d log(ms) / d log(items) between the smallest and the largest catalogue."""
    least, most = min(ms), max(ms)
    return math.log(ms[most] / ms[least]) / math.log(most / least)


def measured(folder: Path, scale: Scale, seed: int) -> dict[str, list[float]]:
    """Returns each figure's values, over the rounds."""
    found: dict[str, list[float]] = {}
    for num_items in scale.catalogues:
        say(f"  a catalogue of {num_items:,}")
        numbers = (DEFAULT_CANDIDATES,)
        if num_items == scale.candidates_of:
            numbers += scale.candidates
        place = folder / str(num_items)
        place.mkdir()
        requests, bundles = export(place, num_items, seed, numbers)
        models = {
            f"ms_c{number}": bundles[number] / "recommender" for number in numbers[1:]
        }
        models[f"ms_{num_items}"] = bundles[DEFAULT_CANDIDATES] / "recommender"
        exact = bundles[DEFAULT_CANDIDATES] / "recommender_exact"
        models[f"ms_exact_{num_items}"] = exact
        found |= call_ms(models, requests, scale)
        if num_items == scale.candidates_of:
            found[f"ms_c{DEFAULT_CANDIDATES}"] = found[f"ms_{num_items}"]
    return found


def plots(figures: dict[str, float], scale: Scale) -> list[dict]:
    """Returns time by catalogue and time by candidates."""
    by_items = {
        label: [(float(n), figures[f"{key}{n}"]) for n in scale.catalogues]
        for label, key in (("recommender", "ms_"), ("recommender_exact", "ms_exact_"))
    }
    numbers = sorted((*scale.candidates, DEFAULT_CANDIDATES))
    by_candidates = [(float(n), figures[f"ms_c{n}"]) for n in numbers]
    return [
        {
            "name": "items",
            "title": "Time of one answer by size of the catalogue",
            "x_label": "items",
            "y_label": "ms",
            "series": by_items,
            "log_x": True,
            "log_y": True,
        },
        {
            "name": "candidates",
            "title": f"Time of one answer by candidates, {scale.candidates_of:,} items",
            "x_label": "candidates ranked",
            "y_label": "ms",
            "series": {"recommender": by_candidates},
        },
    ]


def main() -> int:
    """Runs the benchmark as the command line says."""
    arguments = parsed_arguments("catalog_cost", __doc__)
    begin = time.monotonic()
    scale = QUICK if arguments.quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), scale, arguments.seed)
    figures = {name: float(np.median(values)) for name, values in found.items()}
    for name, key in (("exponent", "ms_"), ("exponent_exact", "ms_exact_")):
        figures[name] = exponent({n: figures[f"{key}{n}"] for n in scale.catalogues})
    result = Result(
        name="catalog_cost",
        figures=figures,
        intervals={name: (min(x), max(x)) for name, x in found.items()},
        versions=versions_of("tensorflow", "scann", "numpy"),
        data={
            **dataclasses.asdict(scale),
            "quick": arguments.quick,
            "plots": plots(figures, scale),
        },
        seconds=time.monotonic() - begin,
    )
    return finish(result, arguments)


if __name__ == "__main__":
    sys.exit(main())

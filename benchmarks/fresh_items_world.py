"""A shop with a release over clustered vectors, for `benchmarks.fresh_items`.

It is the shop of the tests, but that the vectors of items and users are drawn: the item
tower looks an item's vector up by its number, the query tower that of a user by its id.
"""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.ann_world import World
from components.build_index import embed_catalogue
from components.export_bundle import ExportedBundle, export_bundle
from components.export_recommender import ExportSettings, TrainedStages
from components.ingestion.items import write_catalog
from components.recorded_requests import UserRequest, requests_of
from models.preprocessing import TransformGraph
from serving.release_layout import ReleaseManifest
from serving.saved_model import SavedModel
from tests.components import refresh_world as shop

NUM_REQUESTS = 100
# Drawn vectors know no neighbourhoods of users: what the export asks for, no more.
GATE = shop.GATE.model_copy(update={"min_index_agreement": 0.95})
SETTINGS: ExportSettings = shop.SETTINGS.model_copy(update={"num_candidates": 200})


class DrawnTowers(shop.Towers):
    """Towers that look vectors up."""

    def __init__(self, transform: TransformGraph, world: World):
        super().__init__(transform)
        self.items = tf.Variable(world.items, trainable=False)
        self.users = tf.Variable(
            world.measuring[: transform.space.user_id.num_ids], trainable=False
        )

    def _embed_query(self, query):
        return tf.gather(self.users, query["user_id_xf"])

    def signatures(self) -> dict:
        spec = {"item_id": tf.io.FixedLenFeature([], tf.string)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
        def candidate_examples(examples):
            ids = tf.io.parse_example(examples, spec)["item_id"]
            number = tf.strings.to_number(tf.strings.substr(ids, 1, -1), tf.int32)
            return {"embeddings": tf.gather(self.items, number)}

        embed = candidate_examples.get_concrete_function()
        return super().signatures() | {"candidate_examples": embed}


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training would have left in a folder."""

    made: shop.Shop
    requests: list[UserRequest]


def open_shop(folder: Path, world: World) -> Trained:
    """Writes the transform graph and the models."""
    made = shop.Shop.open(folder)
    transform = TransformGraph(made.transform_uri, shop.CATALOG)
    towers = DrawnTowers(transform, world)
    shutil.rmtree(folder / "towers")
    tf.saved_model.save(towers, str(folder / "towers"), towers.signatures())
    users = [shop.serialized(shop.user_row(user)) for user in range(NUM_REQUESTS)]
    return Trained(made, requests_of(users, transform.raw_spec, shop.CATALOG))


def write_items(folder: Path, numbers: range) -> str:
    """Writes the `Catalog` of some items; returns its folder."""
    write_catalog(shop.items_table(numbers), shop.CATALOG, str(folder))
    return str(folder)


def export(trained: Trained, bundle: Path, catalog: str) -> ExportedBundle:
    """Exports a bundle: embeds every item, builds and tunes the index, tries it."""
    stages: TrainedStages = trained.made.stages()
    return export_bundle(
        stages,
        trained.made.transform_uri,
        catalog,
        embed_catalogue(catalog, str(trained.made.folder / "towers")),
        trained.requests,
        bundle,
        SETTINGS,
        GATE,
    )


def push(trained: Trained, bundle: Path, catalog: str, root: str) -> ReleaseManifest:
    """Pushes a bundle into the serving root called `root`."""
    folder = trained.made.folder / root
    folder.mkdir(exist_ok=True)
    shutil.copytree(bundle, folder / bundle.name, copy_function=shutil.move)
    return shop.Shop(folder).push(bundle.name, catalog)


def answers(trained: Trained, model: Path, k: int) -> np.ndarray:
    """Returns [users, k] ids that `recommender_exact` gives."""
    loaded = SavedModel(model)
    try:
        return np.concatenate(
            [
                loaded.run("recommend", request.to_recommend(k, 0))["item_ids"]
                for request in trained.requests
            ]
        )
    finally:
        loaded.close()

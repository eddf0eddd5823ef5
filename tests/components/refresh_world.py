"""A shop whose release is refreshed: towers of random weights over title, price and id.

They need no training; an item's vector and score follow from its features alone, so
another price moves the item, and a new item has a place of its own.
"""

import atexit
import dataclasses
import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from components.build_index import embed_catalogue
from components.export_bundle import ExportedBundle, export_bundle
from components.export_recommender import ExportSettings, TrainedStages
from components.ingestion.items import write_catalog
from components.push_release import push_release
from components.push_settings import PushSettings
from components.record_release_settings import ExportGateSettings
from components.recorded_requests import requests_of
from models.index_settings import IndexKind, IndexSettings
from models.policy_settings import PolicyName, PolicySettings
from models.preprocessing import TransformGraph
from models.signatures import QUERY_SIDES, example_spec, transformed_signature
from schemas.features import Feature, FeatureCatalog, FeatureKind, Side

NUM_ITEMS, NUM_USERS, DIM = 300, 12, 8
CATALOG = FeatureCatalog(
    user=(Feature(name="age", kind=FeatureKind.NUMERIC),),
    item=(
        Feature(name="title", kind=FeatureKind.TEXT, hash_buckets=200),
        Feature(name="price", kind=FeatureKind.NUMERIC),
    ),
    history_length=3,
    id_hash_buckets=40,
)
SETTINGS = ExportSettings(
    catalog=CATALOG,
    index=IndexSettings(kind=IndexKind.SCANN),
    policy=PolicySettings(name=PolicyName.GREEDY),
    num_candidates=20,
    default_k=5,
)
GATE = ExportGateSettings(num_users=NUM_USERS)
_KINDS = {"user_age": "float", "item_price": "float"}
_NOUNS = ("lamp", "chair", "table", "shelf", "mirror", "carpet", "clock", "vase")
_COLOURS = ("red", "green", "blue", "white", "black", "brown", "golden")


def items_table(numbers, price=lambda n: n % 17) -> pa.Table:
    """Returns the items of some numbers; item 7 is `i7` wherever it stands."""
    numbers = list(numbers)
    return pa.table(
        {
            "item_id": [f"i{n}" for n in numbers],
            "title": [f"{_COLOURS[n % 7]} {_NOUNS[n % 8]} {n % 31}" for n in numbers],
            "price": pa.array([float(price(n)) for n in numbers], pa.float32()),
            "shelf": [f"S{n % 5}" for n in numbers],
        }
    )


def user_row(user: int) -> dict:
    """Returns a row of a user who met three items."""
    return {
        "user_id": f"u{user}",
        "item_id": f"i{user}",
        "history_item_ids": [f"i{(7 * user + n) % NUM_ITEMS}" for n in range(3)],
        "user_age": 20.0 + user,
        "item_title": "red lamp",
        "item_price": float(user),
    }


def serialized(row: dict) -> bytes:
    example = tf.train.Example()
    for key, value in row.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[key]
        if key in _KINDS:
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(text.encode() for text in values)
    return example.SerializeToString()


def analyse(path: Path) -> None:
    """Runs TensorFlow Transform over the users' rows; writes its artifact to `path`."""
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam
    from apache_beam.runners.portability import fn_api_runner
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    from models.preprocessing import preprocessing_fn

    spec = {key: tf.io.FixedLenFeature([], tf.string) for key in ("user_id", "item_id")}
    for key in ("history_item_ids", "user_age", "item_title", "item_price"):
        dtype = tf.float32 if key in _KINDS else tf.string
        spec[key] = tf.io.VarLenFeature(dtype)
    metadata = dataset_metadata.DatasetMetadata(
        schema_utils.schema_from_feature_spec(spec)
    )
    listed = ("user_age", "item_title", "item_price")  # as Transform wants them
    rows = [
        row | {key: [row[key]] for key in listed}
        for row in map(user_row, range(NUM_USERS))
    ]
    config = {"catalog": CATALOG.model_dump_json()}
    with beam.Pipeline(runner=fn_api_runner.FnApiRunner()) as pipeline:
        with tft_beam.Context(temp_dir=str(path / "tmp")):
            data = pipeline | "Rows" >> beam.Create(rows)
            transform_fn = (data, metadata) | tft_beam.AnalyzeDataset(
                lambda inputs: preprocessing_fn(inputs, config)
            )
            _ = transform_fn | tft_beam.WriteTransformFn(str(path))
            _ = metadata | tft_beam.WriteMetadata(str(path / "metadata"), pipeline)


# TensorFlow Transform's process crashes in the garbage collection at its end.
_ANALYSE = """
import os
import sys
from pathlib import Path
import models
from tests.components import refresh_world
refresh_world.analyse(Path(sys.argv[1]))
os._exit(0)
"""


class Towers(tf.Module):
    """What `models.retrieval.trainer.RetrievalModule` offers."""

    def __init__(self, transform: TransformGraph):
        super().__init__()
        self.transform, space = transform, transform.space
        random = np.random.default_rng(0)

        def table(rows):
            values = random.standard_normal([rows, DIM]).astype(np.float32)
            return tf.Variable(values, trainable=False)

        self.ids = table(space.item_id.num_ids)
        self.words = table(201)
        self.by_price, self.by_age = table(1), table(1)
        self.embed_query = tf.function(
            self._embed_query,
            input_signature=[transformed_signature(space, space.query_names)],
        )
        self.embed_candidates = tf.function(
            self._embed_candidates,
            input_signature=[transformed_signature(space, space.candidate_names)],
        )

    def _embed_query(self, query):
        history = tf.gather(self.ids, query["history_item_ids_xf"])
        age = query["user_age_xf"][:, tf.newaxis] * self.by_age
        return tf.math.l2_normalize(tf.reduce_sum(history, axis=1) + age, axis=1)

    def _embed_candidates(self, item):
        words = tf.reduce_sum(tf.gather(self.words, item["item_title_xf"]), axis=1)
        price = item["item_price_xf"][:, tf.newaxis] * self.by_price
        vectors = words + price + tf.gather(self.ids, item["item_id_xf"])
        return tf.math.l2_normalize(vectors, axis=1)

    def signatures(self) -> dict:
        def over_examples(sides, embed):
            spec = example_spec(self.transform.raw_spec, CATALOG, *sides)

            @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
            def signature(examples):
                raw = tf.io.parse_example(examples, spec)
                return {"embeddings": embed(self.transform(raw))}

            return signature.get_concrete_function()

        return {
            "query_examples": over_examples(QUERY_SIDES, self.embed_query),
            "candidate_examples": over_examples([Side.ITEM], self.embed_candidates),
        }


class Ranker(tf.Module):
    """What `models.ranking.trainer.RankingModule` offers: dear items score higher."""

    def __init__(self, transform: TransformGraph):
        super().__init__()
        self.transform, space = transform, transform.space
        self.spec = example_spec(transform.raw_spec, CATALOG, *QUERY_SIDES, Side.ITEM)
        random = np.random.default_rng(1)
        self.words = tf.Variable(random.standard_normal(201).astype(np.float32))
        self.score_candidates = tf.function(
            self._score,
            input_signature=[
                transformed_signature(space, space.query_names),
                transformed_signature(space, space.candidate_names, rank=2),
            ],
        )

    def _score(self, query, items):
        words = tf.reduce_sum(tf.gather(self.words, items["item_title_xf"]), axis=2)
        age = 1.0 + 0.1 * query["user_age_xf"][:, tf.newaxis]
        return items["item_price_xf"] * age + 0.3 * words

    def signatures(self) -> dict:
        spec = tf.TensorSpec([None], tf.string, "examples")

        def score(examples):
            values = self.transform(tf.io.parse_example(examples, self.spec))
            item = {
                name: values[name][:, tf.newaxis]
                for name in self.transform.space.candidate_names
            }
            return self._score(values, item)[:, 0]

        @tf.function(input_signature=[spec])
        def serving_default(examples):
            return {"scores": tf.sigmoid(score(examples))}

        @tf.function(input_signature=[spec])
        def logits(examples):
            return {"logits": score(examples)}

        return {
            "serving_default": serving_default.get_concrete_function(),
            "logits": logits.get_concrete_function(),
        }


@dataclasses.dataclass(frozen=True)
class Shop:
    """What training left behind, in a folder."""

    folder: Path

    @property
    def transform_uri(self) -> str:
        return str(self.folder / "transform_graph")

    @property
    def serving_root(self) -> Path:
        return self.folder / "serving"

    @classmethod
    def open(cls, folder: Path) -> "Shop":
        """Writes the transform graph and the trained models; takes seconds."""
        shop = cls(folder)
        process = subprocess.run(
            [sys.executable, "-c", _ANALYSE, shop.transform_uri],
            capture_output=True,
            text=True,
        )
        assert process.returncode == 0, process.stderr
        transform = TransformGraph(shop.transform_uri, CATALOG)
        for name, module in (("towers", Towers), ("ranker", Ranker)):
            made = module(transform)
            tf.saved_model.save(made, str(folder / name), made.signatures())
        return shop

    def write_candidates(self, name: str, table: pa.Table) -> str:
        """Writes a `Catalog`; returns its folder."""
        folder = str(self.folder / name)
        write_catalog(table, CATALOG, folder)
        return folder

    def stages(self) -> TrainedStages:
        return TrainedStages.load(
            self.transform_uri,
            str(self.folder / "towers"),
            str(self.folder / "ranker"),
            CATALOG,
        )

    def export(self, name: str, candidates: str) -> ExportedBundle:
        """Exports a bundle called `name` over a catalogue."""
        stages = self.stages()
        users = [serialized(user_row(user)) for user in range(NUM_USERS)]
        return export_bundle(
            stages,
            self.transform_uri,
            candidates,
            embed_catalogue(candidates, str(self.folder / "towers")),
            requests_of(users, stages.transform.raw_spec, CATALOG),
            self.folder / name,
            SETTINGS,
            GATE,
        )

    def push(self, name: str, candidates: str, **notes):
        """Pushes the bundle called `name`; returns the manifest."""
        profiles = self.folder / "profiles"
        profiles.mkdir(exist_ok=True)
        rows = [user_row(user) for user in range(NUM_USERS)]
        users = {key: [r[key] for r in rows] for key in ("user_id", "history_item_ids")}
        pq.write_table(pa.table(users), profiles / "profiles-00000-of-00001.parquet")
        return push_release(
            self.folder / name,
            Path(candidates),
            profiles,
            self.serving_root,
            PushSettings(),
            **notes,
        )


@functools.cache
def shop_with_release() -> Shop:
    """Returns a shop with a release of all its items, made once for all tests.

    Its folder goes when the tests end; who pushes to it copies the serving root first.
    """
    folder = Path(tempfile.mkdtemp(prefix="tandem-shop-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shop = Shop.open(folder)
    candidates = shop.write_candidates("old", items_table(range(NUM_ITEMS)))
    assert shop.export("first", candidates).gate.passed
    shop.push("first", candidates)
    return shop

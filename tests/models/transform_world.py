"""Ten raw rows whose transformed form can be worked out by hand, and their analysis.

Every kind of feature on every side that allows it, with values missing here and there.
"""

from pathlib import Path

import tensorflow as tf

from schemas.features import Feature, FeatureCatalog, FeatureKind

CATALOG = FeatureCatalog(
    user=(
        Feature(name="age", kind=FeatureKind.NUMERIC),
        Feature(name="city", kind=FeatureKind.CATEGORICAL, hash_buckets=3),
        Feature(name="club", kind=FeatureKind.CATEGORICAL),  # which no row has
    ),
    item=(
        Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL, hash_buckets=2),
        Feature(name="title", kind=FeatureKind.TEXT, hash_buckets=50),
        Feature(name="price", kind=FeatureKind.NUMERIC),
    ),
    context=(
        Feature(name="device", kind=FeatureKind.CATEGORICAL),
        Feature(name="delay", kind=FeatureKind.NUMERIC),  # which no row has
    ),
    history_length=3,
    id_hash_buckets=4,
)

# By falling frequency: items a 4, b 3, c 2, d 1; users u 5, v 3, w 2; cities rome, oslo;
# genres x, y, z; devices phone, tv. One price is NaN, as if the ingestion let it through.
NAN = float("nan")
ROWS = [
    # user, item, history, age, city, genres, title, price, device
    ("u", "a", [], 20.0, "rome", ["x", "y"], "The Green Mile", 1.0, "phone"),
    ("u", "b", ["a"], 20.0, "rome", ["x"], "Alien", 2.0, "phone"),
    ("u", "c", ["a", "b"], 20.0, "rome", [], None, NAN, "phone"),
    ("u", "d", ["a", "b", "c"], 20.0, "rome", ["z"], "Se7en!", 6.0, "tv"),
    ("u", "a", ["a", "b", "c", "d"], 20.0, "rome", ["x", "y"], "The", 1.0, None),
    ("v", "a", [], 40.0, "oslo", ["x", "y"], "The Green Mile", 1.0, "tv"),
    ("v", "b", ["a"], 40.0, "oslo", ["x"], "Alien", 2.0, "tv"),
    ("v", "c", ["b"], 40.0, "oslo", [], None, None, None),
    ("w", "a", [], None, None, ["x", "y"], "The Green Mile", 1.0, "phone"),
    ("w", "b", ["a"], None, None, ["x"], "Alien", 2.0, "phone"),
]
KEYS = (
    "user_id",
    "item_id",
    "history_item_ids",
    "user_age",
    "user_city",
    "item_genres",
    "item_title",
    "item_price",
    "context_device",
)
FIXED = ("user_id", "item_id", "label", "reward")
NUMBERS = ("user_age", "item_price", "context_delay", "label", "reward")


def records() -> list[dict]:
    """Returns the rows as columns by example key, without what is missing."""
    out = []
    for number, row in enumerate(ROWS):
        record = dict(zip(KEYS, row, strict=True))
        record |= {"label": float(number % 2), "reward": 1.0 + number}
        out.append({key: value for key, value in record.items() if value is not None})
    return out


def feature_spec() -> dict:
    """Returns how the rows stand in a tf.Example, as a curated schema would say it."""
    spec = {}
    for key in (*KEYS, "user_club", "context_delay", "label", "reward"):
        dtype = tf.float32 if key in NUMBERS else tf.string
        spec[key] = (
            tf.io.FixedLenFeature([], dtype)
            if key in FIXED
            else tf.io.VarLenFeature(dtype)
        )
    return spec


def serialized(record: dict) -> bytes:
    """Returns the tf.Example of a record."""
    features = {}
    for key, value in record.items():
        values = value if isinstance(value, list) else [value]
        if key in NUMBERS:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            values = [text.encode() for text in values]
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        features[key] = feature
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def write_split(path: Path, rows: list[dict]) -> str:
    """Writes records as one gzipped TFRecord file; returns its name."""
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in rows:
            writer.write(serialized(record))
    return str(path)


def _as_list(value, key: str):
    """Returns a list where TensorFlow Transform expects one, None included."""
    if key in FIXED or value is None or isinstance(value, list):
        return value
    return [value]


def analyse(rows: list[dict], path: Path) -> None:
    """Runs TensorFlow Transform over the records; writes its artifact to `path`."""
    import apache_beam as beam
    import tensorflow_transform.beam as tft_beam
    from apache_beam.runners.portability import fn_api_runner
    from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

    from models.preprocessing import preprocessing_fn

    metadata = dataset_metadata.DatasetMetadata(
        schema_utils.schema_from_feature_spec(feature_spec())
    )
    config = {"catalog": CATALOG.model_dump_json()}
    full = [
        {key: _as_list(record.get(key), key) for key in feature_spec()}
        for record in rows
    ]
    with beam.Pipeline(runner=fn_api_runner.FnApiRunner()) as pipeline:
        with tft_beam.Context(temp_dir=str(path / "tmp")):
            data = pipeline | "Rows" >> beam.Create(full)
            transform_fn = (data, metadata) | tft_beam.AnalyzeDataset(
                lambda inputs: preprocessing_fn(inputs, config)
            )
            _ = transform_fn | tft_beam.WriteTransformFn(str(path))
            _ = metadata | tft_beam.WriteMetadata(str(path / "metadata"), pipeline)

"""The shipped configs and schemas of the public datasets fit the tables they read."""

import fnmatch
import gzip
import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.config import load_config
from pipeline.datasets import DATASETS
from schemas.events import EVENTS, column_type
from schemas.features import Side

ALWAYS = {
    "event_id": "BYTES",
    "user_id": "BYTES",
    "item_id": "BYTES",
    "timestamp": "INT",
    "event_type": "BYTES",
    "label": "FLOAT",
    "reward": "FLOAT",
}
LOGGED = {
    "value": "FLOAT",
    "position": "INT",
    "propensity": "FLOAT",
    "request_id": "BYTES",
}
NEW = ("open-bandit", "complete-journey")


def curated(config):
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2

    return text_format.Parse(config.schema_path().read_text(), schema_pb2.Schema())


def tables_read(config, side: str) -> list[str]:
    """Returns the dataset's tables that a source of the config names."""
    folder, pattern = getattr(config.data, side).path.rsplit("/", 1)
    assert folder == f"data/{config.name}"
    names = [f"{name}.parquet" for name in DATASETS[config.name].schemas]
    found = [name.removesuffix(".parquet") for name in fnmatch.filter(names, pattern)]
    assert found, pattern
    return found


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_declared_feature_is_a_column_of_its_kind(name):
    config = load_config(name)
    schemas = DATASETS[name].schemas
    for side, table in (
        (Side.USER, "users"),
        (Side.ITEM, "items"),
        (Side.CONTEXT, "events"),
    ):
        for found in tables_read(config, table):
            for column in config.features.declared_columns(side):
                assert schemas[found].field(column.name).type == column_type(column)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_canonical_columns_have_the_contracts_types(name):
    for schema in DATASETS[name].schemas.values():
        for field in schema:
            if field.name in EVENTS.names:
                assert field.type == EVENTS.field(field.name).type


@pytest.mark.parametrize("name", NEW)
def test_schema_has_the_keys_that_ingestion_writes_and_no_others(name):
    config = load_config(name)
    [logged] = {
        tuple(key for key in LOGGED if key in DATASETS[name].schemas[table].names)
        for table in tables_read(config, "events")
    }
    features = [key for key, _ in config.features.features()]
    keys = [feature.name for feature in curated(config).feature]
    assert sorted(keys) == sorted([*ALWAYS, "history_item_ids", *logged, *features])


@pytest.mark.parametrize("name", NEW)
def test_schema_gives_dense_keys_to_what_every_row_has(name):
    from tensorflow_metadata.proto.v0 import schema_pb2

    config = load_config(name)
    schema = curated(config)
    kinds = dict(config.features.features())
    dense = {feature.name for feature in schema.feature if feature.HasField("shape")}
    assert dense == set(ALWAYS)
    for feature in schema.feature:
        key = feature.name
        if key in kinds:
            numeric = kinds[key].kind.value == "numeric"
            expected = "FLOAT" if numeric else "BYTES"
        else:
            expected = (ALWAYS | LOGGED).get(key, "BYTES")
        assert schema_pb2.FeatureType.Name(feature.type) == expected, key
        if key in dense:
            assert feature.presence.min_fraction == 1, key
            assert not feature.shape.dim, key
        else:
            assert feature.HasField("value_count"), key
    domains = {domain.name for domain in schema.string_domain}
    used = {feature.domain for feature in schema.feature if feature.domain}
    assert used == domains


@pytest.mark.component
@pytest.mark.parametrize("name", NEW)
def test_domains_are_the_words_of_the_tables(name, request):
    """Every word of the data is in its domain, and every domain's word is in the data."""
    fetched = request.getfixturevalue(name.replace("-", "_"))
    config = load_config(name)
    schema = curated(config)
    domains = {domain.name: set(domain.value) for domain in schema.string_domain}
    checked = set()
    for feature in schema.feature:
        side, _, column = feature.name.partition("_")
        if feature.name != "event_type" and feature.domain:
            tables = [table for table in fetched.paths if table.startswith(f"{side}s")]
            words = pa.chunked_array(
                [
                    chunk
                    for table in tables
                    for chunk in pq.read_table(fetched.paths[table])[column].chunks
                ]
            )
            found = set(pc.unique(words.drop_null()).to_pylist())
            assert found == domains[feature.domain], feature.name
            checked.add(feature.domain)
    assert domains.keys() - checked == {"event_type"}
    assert domains["event_type"] == set(config.data.event_types)


def ingested(config, root, out):
    """Ingests the config's log; returns the summary and the rows of all splits."""
    import apache_beam as beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    from components.ingestion.pipeline import ingest
    from components.ingestion.tfrecord import read_records
    from pipeline.local_runner import with_absolute_paths
    from tests.components.ingestion_oracle import decoded
    from tests.components.ingestion_world import output_paths

    summary = ingest(
        beam.Pipeline(runner=FnApiRunner()),
        with_absolute_paths(config, root).data,
        config.features,
        output_paths(out),
    )
    rows = [
        decoded(record)
        for file in sorted((out / "impressions").rglob("*.gz"))
        for record in read_records(io.BytesIO(gzip.decompress(file.read_bytes())))
    ]
    return summary, rows


def anomalies(config, files) -> set[str]:
    """Returns the keys that TFDV objects to, by the config's schema."""
    import tensorflow_data_validation as tfdv

    schema = curated(config)
    statistics = tfdv.generate_statistics_from_tfrecord(
        str(files), stats_options=tfdv.StatsOptions(schema=schema)
    )
    return set(tfdv.validate_statistics(statistics, schema).anomaly_info)


def check_accounts(summary) -> None:
    """Checks that nothing of a clean log was lost."""
    for source in summary.sources.values():
        assert source.read == source.accepted
        assert source.dead_letters == source.duplicates == 0


@pytest.fixture(scope="module")
def bandit(open_bandit, datasets_root, tmp_path_factory):
    out = tmp_path_factory.mktemp("open-bandit")
    config = load_config("open-bandit")
    return config, out, *ingested(config, datasets_root, out)


@pytest.mark.component
def test_open_bandit_gives_a_row_for_each_showing_and_joins_each_click(
    bandit, open_bandit
):
    config, _, summary, rows = bandit
    check_accounts(summary)
    shown, clicked = {}, set()
    for policy in ("random", "bts"):
        for event in pq.read_table(
            open_bandit.paths[f"events-{policy}-all"]
        ).to_pylist():
            if event["event_type"] == "impression":
                shown[event["event_id"]] = event
            else:
                clicked.add(event["event_id"].removesuffix("-click"))
    assert len(shown) == len(rows) == 20_000
    assert len(clicked) == summary.responses.joined == 80
    assert summary.responses.open_impressions == summary.responses.orphans == 0
    for row in rows:
        [event_id] = row["event_id"]
        event = shown.pop(event_id)
        assert row["event_type"] == ["impression"]
        assert row["timestamp"] == [event["timestamp"]]
        assert row["position"] == [event["position"]]
        assert row["propensity"] == pytest.approx([event["propensity"]], rel=1e-6)
        answered = float(event_id in clicked)
        assert row["label"] == row["reward"] == [answered]
        assert row.get("context_affinity_item_ids", []) == event["affinity_item_ids"]
    assert not shown
    keys = {key for row in rows for key in row}
    assert keys == {feature.name for feature in curated(config).feature}


@pytest.mark.component
@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_open_bandit_rows_fit_the_curated_schema(bandit, split):
    config, out, _, _ = bandit
    assert anomalies(config, out / "impressions" / f"Split-{split}" / "*.gz") == set()


def as_seconds(row) -> None:
    row["timestamp"] = [row["timestamp"][0] // 1000]


def counted_from_one(row) -> None:
    row["position"] = [row["position"][0] + 1]


def without_propensity(row) -> None:
    del row["propensity"]


def in_percent(row) -> None:
    row["propensity"] = [100 * row["propensity"][0]]


def hashed_otherwise(row) -> None:
    row["item_feature_2"] = ["5e92ce840abf12dc17408ca42b189836"]  # in the bts folder


def of_unknown_users(row) -> None:
    del row["user_feature_3"]


@pytest.mark.component
@pytest.mark.parametrize(
    "damages",
    [
        {
            "timestamp": as_seconds,
            "position": counted_from_one,
            "propensity": without_propensity,
            "item_feature_2": hashed_otherwise,
            "user_feature_3": of_unknown_users,
        },
        {"propensity": in_percent},
    ],
)
def test_open_bandit_schema_objects_to_damaged_rows(bandit, tmp_path, damages):
    import tensorflow as tf

    config, _, _, rows = bandit
    # Each with its affinities: few rows have any, and a small sample might have none.
    chosen = [row.copy() for row in rows if "context_affinity_item_ids" in row][:300]
    with tf.io.TFRecordWriter(str(tmp_path / "rows")) as writer:
        for row in chosen:
            for damage in damages.values():
                damage(row)
            writer.write(as_example(row))
    assert anomalies(config, tmp_path / "rows") == set(damages)


def as_example(row) -> bytes:
    import tensorflow as tf

    features = {}
    for key, values in row.items():
        if values and isinstance(values[0], float):
            features[key] = {"float_list": {"value": values}}
        elif values and isinstance(values[0], int):
            features[key] = {"int64_list": {"value": values}}
        else:
            features[key] = {"bytes_list": {"value": [v.encode() for v in values]}}
    return tf.train.Example(features={"feature": features}).SerializeToString()


@pytest.fixture(scope="module")
def journey(complete_journey, tmp_path_factory):
    """The purchases of every 250th household, ingested."""
    root = tmp_path_factory.mktemp("complete-journey")
    config = load_config("complete-journey")
    folder = root / "data" / config.name
    folder.mkdir(parents=True)
    for table in ("items", "users"):
        (folder / f"{table}.parquet").symlink_to(complete_journey.paths[table])
    events = pq.read_table(complete_journey.paths["events"])
    households = pc.unique(events["user_id"])
    chosen = households.take(list(range(0, len(households), 250)))
    events = events.filter(pc.is_in(events["user_id"], chosen))
    pq.write_table(events, folder / "events.parquet")
    return config, events, root / "out", *ingested(config, root, root / "out")


@pytest.mark.component
def test_complete_journey_draws_four_negatives_outside_each_basket(journey):
    config, events, _, summary, rows = journey
    check_accounts(summary)
    purchases = {event["event_id"]: event for event in events.to_pylist()}
    baskets: dict[tuple[str, int], set[str]] = {}
    for event in purchases.values():
        moment = (event["user_id"], event["timestamp"])
        baskets.setdefault(moment, set()).add(event["item_id"])
    negatives: dict[str, int] = {}
    for row in rows:
        event_id, drawn, _ = row["event_id"][0].partition("~")
        event = purchases[event_id]
        moment = (event["user_id"], event["timestamp"])
        assert (row["user_id"][0], row["timestamp"][0]) == moment
        assert row["context_store_id"] == [event["store_id"]]
        assert row["label"] == row["reward"] == [0.0 if drawn else 1.0]
        if drawn:
            negatives[event_id] = negatives.get(event_id, 0) + 1
            assert row["item_id"][0] not in baskets[moment]
            assert "value" not in row
        else:
            assert row["item_id"] == [event["item_id"]]
            assert row["value"] == pytest.approx([event["value"]], rel=1e-6)
    assert len(rows) == 5 * len(purchases)
    assert negatives == dict.fromkeys(purchases, 4)
    keys = {key for row in rows for key in row}
    assert keys == {feature.name for feature in curated(config).feature}


@pytest.mark.component
def test_complete_journey_histories_hold_only_earlier_baskets(journey):
    _, events, _, _, rows = journey
    bought: dict[str, list[tuple[int, str, str]]] = {}
    for event in events.to_pylist():
        line = (event["timestamp"], event["event_id"], event["item_id"])
        bought.setdefault(event["user_id"], []).append(line)
    for lines in bought.values():
        lines.sort()
    for row in rows[::50]:
        [at], [user] = row["timestamp"], row["user_id"]
        earlier = [item for time, _, item in bought[user] if time < at]
        assert row.get("history_item_ids", []) == earlier[-50:]


@pytest.mark.component
@pytest.mark.parametrize("split", ["train", "eval", "test"])
def test_complete_journey_rows_fit_the_curated_schema(journey, split):
    config, _, out, _, _ = journey
    assert anomalies(config, out / "impressions" / f"Split-{split}" / "*.gz") == set()

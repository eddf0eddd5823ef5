"""What an export tells a recommender of its items, and the gate of its caps."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.candidate_selection_settings import CandidateSettings
from components.export_recommender import ExportSettings
from components.ingestion.errors import IngestionError
from components.item_facts import item_facts
from components.release_caps import caps_of_bundle
from components.release_parts import parts_of_bundle
from models.index_settings import IndexSettings
from models.policy_settings import PolicySettings
from schemas.features import Feature, FeatureCatalog, FeatureKind

ITEMS = pa.table(
    {
        "item_id": ["a", "b", "c"],
        "genres": [["war", "war", ""], None, ["love", "war"]],
        "brand": ["x", "", None],
        "available_until": ["1970-01-01T00:00:01Z", None, ""],
        "opens": [None, 500, None],
    }
)
CAPPED = PolicySettings(caps={"genres": 2, "brand": 1})
VECTORS = np.ones([3, 2], np.float32)


@pytest.fixture
def catalog(tmp_path):
    pq.write_table(ITEMS, tmp_path / "items.parquet")
    return str(tmp_path)


def _open_rows(facts, now):
    rows = tf.constant([[0, 1, 2]])
    return (
        facts.windows.are_open(rows, tf.constant([now], tf.int64))[0].numpy().tolist()
    )


def test_windows_are_those_of_the_columns_that_are_named(catalog):
    plain = item_facts(catalog, CandidateSettings(), PolicySettings(), VECTORS)
    assert plain.caps is None and plain.vectors is None
    assert _open_rows(plain, 999) == [True] * 3
    assert _open_rows(plain, 1000) == [False, True, True]
    named = CandidateSettings(available_from_column="opens").of_windows
    facts = item_facts(catalog, named, PolicySettings(), VECTORS)
    assert _open_rows(facts, 499) == [True, False, True]
    assert facts.windows.num_closed(
        tf.constant([499, 2000, 0], tf.int64)
    ).numpy().tolist() == [1, 1, 0]


def test_a_value_counts_once_an_item_and_apart_from_other_features(catalog):
    caps = item_facts(catalog, CandidateSettings(), CAPPED, VECTORS).caps
    assert caps.limits == (2, 2, 1)
    war, love, brand = caps.values[0, 0], caps.values[2, 0], caps.values[0, 2]
    assert len({war, love, brand, -1}) == 4
    expected = [[war, -1, brand], [-1, -1, -1], [love, war, -1]]
    np.testing.assert_array_equal(caps.values, expected)
    assert caps.num_fitting() == 3


def test_a_cap_on_a_column_that_is_not_there_names_those_that_are(catalog):
    policy = PolicySettings(caps={"maker": 1})
    with pytest.raises(IngestionError, match=r"policy.caps.maker.*'brand'.*cap by one"):
        item_facts(catalog, CandidateSettings(), policy, VECTORS)


def test_a_bundle_tells_the_gate_its_caps(tmp_path):
    assert caps_of_bundle(tmp_path) == ()
    parts = parts_of_bundle(tmp_path)
    (parts.folder / "candidates").mkdir(parents=True)
    pq.write_table(ITEMS, parts.folder / "candidates" / "items.parquet")
    genres = Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL)
    settings = ExportSettings(
        catalog=FeatureCatalog(item=(genres,)),
        index=IndexSettings(),
        policy=PolicySettings(caps={"genres": 2}),
        num_candidates=5,
        default_k=2,
    )
    (parts.folder / "export.json").write_text(settings.model_dump_json())
    (cap,) = caps_of_bundle(tmp_path)
    assert cap.limit == 2 and not cap.is_single
    assert cap.counts("abc") == {"war": 2, "love": 1}

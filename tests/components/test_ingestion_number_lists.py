"""Vectors and weights: which lists are taken, and what becomes of the others."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from components.ingestion import json_lines
from components.ingestion.blocks import whole
from components.ingestion.number_lists import to_vectors, to_weighted_lists
from components.ingestion.parsing import parse_side_table
from components.ingestion.records import read_batches
from components.ingestion.sources import column_maps, match_files
from schemas.features import FeatureCatalog
from tests.components import ingestion_world as world

NAN, INF = math.nan, math.inf
CATALOG = FeatureCatalog.model_validate(
    {
        "user": [
            {"name": "taste", "kind": "vector", "size": 2},
            {"name": "tags", "kind": "multi_categorical", "weights": "tag_counts"},
            {"name": "idol", "kind": "item_id"},
        ]
    }
)

# value -> what a vector of two is; "wrong" is no list of the kind.
VECTORS = [
    ([0.5, -2], [0.5, -2.0]),
    ([1, 2], [1.0, 2.0]),
    (None, None),
    ([], None),
    ("0.5| 1e3", [0.5, 1000.0]),
    (" ", None),
    (["0.5", "2"], [0.5, 2.0]),
    ([0.5], "wrong"),
    (0.5, "wrong"),
    ([0.5, 1, 2], "wrong"),
    ([0.5, None], "wrong"),
    ([0.5, NAN], "wrong"),
    ([0.5, -INF], "wrong"),
    ([0.5, 1e39], "wrong"),  # beyond float32
    ([0.5, 10**400], "wrong"),
    ([0.5, "x"], "wrong"),
    ([0.5, True], "wrong"),
    ([[0.5, 1.0]], "wrong"),
    ({"a": 1.0}, "wrong"),
    ("0.5|", "wrong"),
    ("0.5", "wrong"),
    (True, "wrong"),
]


def fates(array, wrong):
    return [
        "wrong" if is_wrong else value
        for value, is_wrong in zip(array.to_pylist(), wrong, strict=True)
    ]


def check_vectors(convert):
    """The checker: by hand, together and alone; and as Arrow's own lists."""
    values, expected = zip(*VECTORS, strict=True)
    array, wrong = convert(list(values), 2, "|")
    assert array.type == pa.list_(pa.float32())
    assert fates(array, wrong) == list(expected)
    for value, fate in VECTORS:
        assert fates(*convert([value], 2, "|")) == [fate]
    lists = [[0.5, 2.0], None, [NAN, 1.0], [INF, 1.0], [4.0, 5.0]]
    seen = [[0.5, 2.0], None, "wrong", "wrong", [4.0, 5.0]]
    for kind in (
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 2),
    ):
        stored = pa.array([[9.0, 9.0], *lists], kind).slice(1)
        assert fates(*convert(stored, 2, "|")) == seen
    ragged = pa.array([[1], [1, 2], [], [1, None], [1, 2, 3]])
    assert fates(*convert(ragged, 2, "|")) == [
        *("wrong", [1.0, 2.0], None, "wrong", "wrong")
    ]
    nothing = pa.nulls(2)
    assert fates(*convert(nothing, 2, "|")) == [None, None]


def _padded(values, size, separator):
    """Fills up what is too short, and cuts what is too long."""
    rows = [
        [*value, *[0.0] * size][:size] if isinstance(value, list) and value else value
        for value in (values.to_pylist() if isinstance(values, pa.Array) else values)
    ]
    return to_vectors(rows, size, separator)


def _not_finite(values, size, separator):
    """Takes NaN and infinities for numbers."""
    plain = values.to_pylist() if isinstance(values, pa.Array) else values

    def number(x):
        return 0.0 if isinstance(x, float) and not math.isfinite(x) else x

    rows = [[number(x) for x in v] if isinstance(v, list) else v for v in plain]
    return to_vectors(rows, size, separator)


def _empty_is_wrong(values, size, separator):
    array, wrong = to_vectors(values, size, separator)
    plain = values.to_pylist() if isinstance(values, pa.Array) else values
    return array, wrong | np.array([value == [] for value in plain])


def test_vectors():
    check_vectors(to_vectors)


@pytest.mark.parametrize("wrong", [_padded, _not_finite, _empty_is_wrong])
def test_vectors_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_vectors(wrong)


def test_a_vector_of_one_may_stand_alone():
    """A tf.Example's list of one value comes as that value."""
    assert fates(*to_vectors([0.5, [0.5], "0.5", True], 1, "|")) == [
        *([0.5], [0.5], [0.5], "wrong")
    ]


# values, weights -> what each is; the first wrong one is what the record is refused for.
WEIGHTED = [
    (["a", "b"], [1, 0.5], ["a", "b"], [1.0, 0.5]),
    (["a", "b"], [0, 0], ["a", "b"], [0.0, 0.0]),
    (["a", "", None, "b"], [1, 2, 3, 4], ["a", "b"], [1.0, 4.0]),
    ("a| |b", "1|2|3", ["a", "b"], [1.0, 3.0]),
    ([7, "b"], ["1", 2], ["7", "b"], [1.0, 2.0]),
    ("a", 0.5, ["a"], [0.5]),
    (["a", "b"], None, ["a", "b"], None),  # no weights: all alike
    (["a", ""], [], ["a"], None),
    ([], [], [], None),
    (None, None, None, None),
    ("", "", [], None),
    (["a", "b"], [1], ["a", "b"], "wrong"),
    (["a"], [1, 2], ["a"], "wrong"),
    (None, [1.0], None, "wrong"),
    ([], [1.0], [], "wrong"),
    (["a"], [-0.5], ["a"], "wrong"),
    (["a"], [NAN], ["a"], "wrong"),
    (["a"], [INF], ["a"], "wrong"),
    (["a"], ["x"], ["a"], "wrong"),
    (["a", "b"], [1, None], ["a", "b"], "wrong"),
    (3.5, [1.0], "wrong", None),
    ([1.5], [1.0], "wrong", None),
]


def check_weighted(convert):
    """The checker: by hand, together and alone; and as Arrow's own lists."""
    values, weights, *expected = zip(*WEIGHTED, strict=True)
    texts, numbers, *wrong = convert(list(values), list(weights), "|")
    assert fates(texts, wrong[0]) == list(expected[0])
    assert fates(numbers, wrong[1]) == list(expected[1])
    for value, weight, *fate in WEIGHTED:
        texts, numbers, *wrong = convert([value], [weight], "|")
        assert [*fates(texts, wrong[0]), *fates(numbers, wrong[1])] == fate
    stored = pa.array([["x"], ["a", "b"], None, ["c"], ["d", ""]]).slice(1)
    alongside = pa.array([[9.0, 9.0], [1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]])
    texts, numbers, *wrong = convert(stored, alongside.slice(1), "|")
    assert fates(texts, wrong[0]) == [["a", "b"], None, ["c"], ["d"]]
    assert fates(numbers, wrong[1]) == [[1.0, 2.0], None, "wrong", [5.0]]
    assert numbers.type == pa.list_(pa.float32())


def _weight_of_a_gap_kept(values, weights, separator):
    """Leaves empty values out, and their weights in."""
    texts, numbers, *wrong = to_weighted_lists(values, weights, separator)
    plain = weights.to_pylist() if isinstance(weights, pa.Array) else weights
    kept = [
        given
        if isinstance(given, list) and len(given) > len(number or given)
        else number
        for given, number in zip(plain, numbers.to_pylist(), strict=True)
    ]
    return texts, pa.array(kept, pa.list_(pa.float32())), *wrong


def _negative_taken(values, weights, separator):
    plain = weights.to_pylist() if isinstance(weights, pa.Array) else weights
    sizes = [
        [abs(x) if isinstance(x, float) else x for x in w] if isinstance(w, list) else w
        for w in plain
    ]
    return to_weighted_lists(values, sizes, separator)


def _ones_for_none(values, weights, separator):
    texts, numbers, *wrong = to_weighted_lists(values, weights, separator)
    filled = [
        [1.0] * len(t) if t and n is None else n
        for t, n in zip(texts.to_pylist(), numbers.to_pylist(), strict=True)
    ]
    return texts, pa.array(filled, pa.list_(pa.float32())), *wrong


def test_weighted_lists():
    check_weighted(to_weighted_lists)


@pytest.mark.parametrize(
    "wrong", [_weight_of_a_gap_kept, _negative_taken, _ones_for_none]
)
def test_weighted_lists_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_weighted(wrong)


NUMBER = st.floats(width=32) | st.integers(-3, 3)
ROWS = st.lists(
    st.tuples(
        st.none() | st.lists(st.sampled_from(["a", "b", "", None]), max_size=3),
        st.none() | st.lists(NUMBER, max_size=3),
    ),
    max_size=6,
)


def slow_weighted(values, weights):
    """One row, by the rule's own words: (values, weights) or "wrong"."""
    weights = weights or None
    if weights is not None:
        if len(weights) != len(values or []):
            return "wrong"
        if not all(math.isfinite(w) and w >= 0 for w in weights):
            return "wrong"
    if values is None:
        return None, None
    kept = [place for place, value in enumerate(values) if value]
    texts = [values[place] for place in kept]
    return texts, weights and [float(weights[place]) for place in kept]


@hypothesis_settings(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_any_weighted_lists_are_as_the_rule_says(rows):
    values, weights = ([row[at] for row in rows] for at in (0, 1))
    stored = (
        pa.array(values, pa.list_(pa.string())),
        pa.array(
            [w and [float(x) for x in w] for w in weights], pa.list_(pa.float64())
        ),
    )
    for given_as in ((values, weights), stored):
        texts, numbers, wrong_values, wrong = to_weighted_lists(*given_as, "|")
        assert not wrong_values.any()
        seen = zip(texts.to_pylist(), numbers.to_pylist(), wrong, strict=True)
        for row, (text, number, is_wrong) in zip(rows, seen, strict=True):
            expected = slow_weighted(*row)
            assert ("wrong" if is_wrong else (text, number)) == expected


# --- Files ------------------------------------------------------------------------------

GOOD = {
    "user_id": "u",
    "taste": [0.5, 2.0],
    "tags": ["x", "y"],
    "tag_counts": [3.0, 1.0],
    "idol": "i0",
}
BARE = {"user_id": "v", "taste": None, "tags": None, "tag_counts": None, "idol": None}
BAD = {
    "taste": ([0.5], "`taste` should be a list of finite numbers, `size` = 2 of them"),
    "tag_counts": (
        [3.0],
        "`tag_counts` should be a list with a finite number >= 0 for each value of `tags`",
    ),
    "idol": ("x" * 2000, "`idol` should be a non-empty string of at most 1024 bytes"),
}
RECORDS = [
    GOOD,
    BARE,
    *(GOOD | {name: value} for name, (value, _) in BAD.items()),
]


def _flat(record):
    return [
        "|".join(map(str, value)) if isinstance(value, list) else value or ""
        for value in record.values()
    ]


def write_csv(path):
    lines = [",".join(map(str, _flat(record))) for record in RECORDS]
    path.write_text("\n".join([",".join(GOOD), *lines]))


def write_jsonl(path):
    path.write_text("\n".join(map(json.dumps, RECORDS)))


def write_parquet(path):
    pq.write_table(pa.Table.from_pylist(RECORDS), path)


def write_tfrecord(path):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            example = tf.train.Example()
            for name, value in record.items():
                for one in value if isinstance(value, list) else [value]:
                    feature = example.features.feature[name]
                    if isinstance(one, float):
                        feature.float_list.value.append(one)
                    elif one is not None:
                        feature.bytes_list.value.append(one.encode())
            writer.write(example.SerializeToString())


def parse_users(path):
    settings = world.settings(users={"path": str(path)})
    column_map = column_maps(settings, CATALOG)["users"]
    (file,) = match_files("users", settings.users)
    accepted, dead = [], []
    for batch in read_batches(whole(file), settings.users, column_map, 100):
        table, letters = parse_side_table(
            batch, column_map, settings.users, "user_id", CATALOG.user
        )
        accepted += table.select(list(GOOD)).to_pylist()
        dead += letters
    return accepted, dead


@pytest.mark.parametrize(
    "write", [write_csv, write_jsonl, write_parquet, write_tfrecord]
)
def test_every_format_gives_the_same_rows_and_dead_letters(tmp_path, write):
    path = tmp_path / f"users.{write.__name__.removeprefix('write_')}"
    write(path)
    accepted, dead = parse_users(path)
    assert accepted[0] == GOOD
    bare = {name: value or None for name, value in accepted[1].items()}
    assert (len(accepted), bare) == (2, BARE)
    assert [letter.field for letter in dead] == list(BAD)
    for letter, (_, reason) in zip(dead, BAD.values(), strict=True):
        assert letter.reason.startswith(f"{reason}. Received: ")


def test_json_numbers_in_lists_are_read_at_once_and_alike(tmp_path, monkeypatch):
    """The odd line among 500 is read alone; nothing else tells it from the others."""
    alone = []
    one_by_one = json_lines._one_by_one
    monkeypatch.setattr(
        json_lines,
        "_one_by_one",
        lambda part, odd, parse: alone.append(len(odd)) or one_by_one(part, odd, parse),
    )
    records = [
        GOOD | {"user_id": f"u{i}", "taste": [i, i / 8] if i % 2 else [i / 8, -i / 4]}
        for i in range(500)
    ]
    lines = [json.dumps(record) for record in records]
    lines[100] = lines[100].replace("12.5", "1.25e1")
    lines[200] = lines[200].replace("25.0", "NaN")
    lines[300] = lines[300].replace("37.5", "null")
    path = tmp_path / "users.jsonl"
    path.write_text("\n".join(lines))
    accepted, dead = parse_users(path)
    assert [letter.reason.partition("Received: ")[2] for letter in dead] == [
        "[nan, -50]",
        "[None, -75]",
    ]
    assert sum(alone) == 2
    del records[300], records[200]
    by_id = {row["user_id"]: row for row in accepted}
    assert sorted(by_id) == sorted(record["user_id"] for record in records)
    differing = [r["user_id"] for r in records if by_id[r["user_id"]] != r]
    assert not differing

import numpy as np
import pytest
import tensorflow as tf

from models.preprocessing import (
    TransformGraph,
    hash_ngrams,
    lookup_ids,
    raw_features,
)
from schemas.features import Feature, FeatureCatalog, FeatureKind, Side
from tests.models import transform_world as world

NAN = np.nan


@pytest.fixture
def vocabulary(tmp_path):
    def write(*values):
        path = tmp_path / f"vocabulary_{len(values)}"
        path.write_text("".join(f"{value}\n" for value in values))
        return tf.constant(str(path))

    return write


def _in_a_graph(lookup):
    # An eager table would stay in TensorFlow Transform's records of the whole process.
    return lambda *args: tf.function(lambda: lookup(*args))().numpy()


def check_lookup_ids(lookup, vocabulary):
    """Of 3 buckets and a vocabulary of 2: 0 pads, 1 to 3 are hashed, 4 and 5 known."""
    lookup = _in_a_graph(lookup)
    values = tf.constant([["a", "", "b"], ["?", "new", "a"]])
    ids = lookup(values, vocabulary("a", "b"), 3)
    np.testing.assert_array_equal(ids[0], [4, 0, 5])
    assert ids[1, 2] == 4
    assert set(ids[1, :2]) <= {1, 2, 3}
    many = tf.constant([f"unknown {n}" for n in range(200)])
    assert set(lookup(many, vocabulary("a", "b"), 3)) == {1, 2, 3}
    # A vocabulary that grows at its end moves no known id.
    grown = lookup(values, vocabulary("a", "b", "new"), 3)
    np.testing.assert_array_equal(grown[0], ids[0])
    assert grown[1, 1] == 6


def _vocabulary_first(values, vocabulary, num_hash_buckets):
    ids = lookup_ids(values, vocabulary, num_hash_buckets)
    size = 2
    known = ids > num_hash_buckets
    moved = tf.where(known, ids - num_hash_buckets, ids + size)
    return tf.where(ids == 0, tf.zeros_like(ids), moved)


WRONG_LOOKUPS = {
    "vocabulary first": _vocabulary_first,
    "empty string hashed": lambda values, *rest: lookup_ids(
        tf.where(values == "", "empty", values), *rest
    ),
    "one unknown id": lambda values, vocabulary, buckets: tf.where(
        lookup_ids(values, vocabulary, buckets) <= buckets,
        tf.cast(values != "", tf.int64),
        lookup_ids(values, vocabulary, buckets),
    ),
    "no id for padding": lambda *args: tf.maximum(lookup_ids(*args) - 1, 0),
}


def test_lookup_ids_value(vocabulary):
    check_lookup_ids(lookup_ids, vocabulary)


@pytest.mark.parametrize("wrong", WRONG_LOOKUPS.values(), ids=WRONG_LOOKUPS)
def test_lookup_ids_checker_rejects(wrong, vocabulary):
    with pytest.raises(AssertionError):
        check_lookup_ids(wrong, vocabulary)


def _hashed(*ngrams, num_buckets=1000):
    return [1 + int(tf.strings.to_hash_bucket_fast(n, num_buckets)) for n in ngrams]


def check_ngrams(hash_text):
    """Words, then pairs; case, accents' case and punctuation are no part of them."""
    texts = ["The  Green-Mile!", "alien", "", "?!", "ÉTÉ 東京", "été 東京"]
    ids = hash_text(tf.constant(texts), 1000).numpy()
    expected = [
        _hashed("the", "green", "mile", "the green", "green mile"),
        _hashed("alien"),
        [],
        [],
        _hashed("été", "東京", "été 東京"),
        _hashed("été", "東京", "été 東京"),
    ]
    assert ids.shape == (6, 5)
    for row, ngrams in zip(ids, expected, strict=True):
        assert sorted(row[row > 0]) == sorted(ngrams)


def _ngrams_of(clean, width=(1, 2)):
    def hash_text(texts, num_buckets):
        words = tf.strings.split(clean(texts))
        ngrams = tf.strings.ngrams(words, ngram_width=width, separator=" ")
        return (1 + tf.strings.to_hash_bucket_fast(ngrams, num_buckets)).to_tensor()

    return hash_text


def _words_of(texts):
    return tf.strings.regex_replace(texts, r"[^\pL\pN]+", " ")


WRONG_NGRAMS = {
    "case kept": _ngrams_of(_words_of),
    # Found in the transform: "ÉTÉ" and "été" were different words.
    "ASCII lower case only": _ngrams_of(lambda t: _words_of(tf.strings.lower(t))),
    "punctuation kept": _ngrams_of(lambda t: tf.strings.lower(t, "utf-8")),
    "no pairs": _ngrams_of(
        lambda t: _words_of(tf.strings.lower(t, "utf-8")), width=(1,)
    ),
}


def test_hash_ngrams_value():
    check_ngrams(hash_ngrams)


@pytest.mark.parametrize("wrong", WRONG_NGRAMS.values(), ids=WRONG_NGRAMS)
def test_ngrams_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_ngrams(wrong)


def test_hash_ngrams_survives_bytes_that_are_no_text():
    ids = hash_ngrams(tf.constant([b"\xff\xfe", b"\xffok"]), 10)
    assert ids.shape[0] == 2 and (ids.numpy() <= 10).all()


def test_raw_features_leaves_out_what_is_missing():
    catalog = FeatureCatalog(
        user=(Feature(name="age", kind=FeatureKind.NUMERIC),),
        item=(
            Feature(name="genres", kind=FeatureKind.MULTI_CATEGORICAL),
            Feature(name="title", kind=FeatureKind.TEXT),
        ),
        context=(Feature(name="device", kind=FeatureKind.CATEGORICAL),),
    )
    inputs = {
        "user_id": tf.constant(["u", "v", ""]),
        "history_item_ids": tf.constant([["", "a"], ["a", "b"], ["", ""]]),
        "user_age": tf.constant([1.5, NAN, np.inf]),
        "context_device": tf.constant(["", "tv", ""]),
    }
    raw = raw_features(inputs, catalog, Side.USER, Side.CONTEXT)
    assert set(raw) == set(inputs)
    assert raw["user_id"] is inputs["user_id"]
    assert raw["history_item_ids"].indices.numpy().tolist() == [[0, 1], [1, 0], [1, 1]]
    assert raw["user_age"].indices.numpy().tolist() == [[0, 0]]
    assert raw["user_age"].values.numpy().tolist() == [1.5]
    assert raw["user_age"].dense_shape.numpy().tolist() == [3, 1]
    assert raw["context_device"].indices.numpy().tolist() == [[1, 0]]
    item = {
        "item_id": tf.constant(["a"]),
        "item_genres": tf.constant([["x", ""]]),
        "item_title": tf.constant(["Alien"]),
    }
    raw = raw_features(item, catalog, Side.ITEM)
    assert set(raw) == set(item)
    assert raw["item_genres"].values.numpy().tolist() == [b"x"]
    assert raw["item_title"].values.numpy().tolist() == [b"Alien"]


# The analysed graph: one real run of TensorFlow Transform a session.

QUERY = (Side.USER, Side.CONTEXT)


@pytest.fixture(scope="module")
def graph(transform_uri):
    return TransformGraph(transform_uri, world.CATALOG)


@pytest.fixture(scope="module")
def transformed(graph):
    """Returns the rows of the world, read as tf.Examples and transformed."""
    serialized = [world.serialized(record) for record in world.records()]
    return graph(tf.io.parse_example(serialized, graph.raw_spec))


def _request(**changed):
    """Returns one user's dense inputs."""
    inputs = {
        "user_id": ["u"],
        "history_item_ids": [["a", "b"]],
        "user_age": [20.0],
        "user_city": ["rome"],
        "user_club": [""],
        "context_device": ["tv"],
        "context_delay": [NAN],
        **changed,
    }
    if not inputs["history_item_ids"][0]:
        inputs["history_item_ids"] = tf.zeros([1, 0], tf.string)
    return {key: tf.constant(value) for key, value in inputs.items()}


def _query(graph, **changed):
    return graph(raw_features(_request(**changed), world.CATALOG, *QUERY))


def check_ids(columns):
    """4 id buckets, then by falling frequency: a is 5, b 6, c 7, d 8; u 5, v 6, w 7."""
    assert columns["item_id_xf"].tolist() == [5, 6, 7, 8, 5, 5, 6, 7, 5, 6]
    assert columns["user_id_xf"].tolist() == [5, 5, 5, 5, 5, 6, 6, 6, 7, 7]
    # 3 buckets, so rome is 4; 8 by default, so phone is 9; 0 is missing.
    assert columns["user_city_xf"].tolist() == [4, 4, 4, 4, 4, 5, 5, 5, 0, 0]
    assert columns["context_device_xf"].tolist() == [9, 9, 9, 10, 0, 10, 10, 0, 9, 9]
    genres = [sorted(row[row > 0]) for row in columns["item_genres_xf"]]
    assert genres[:4] == [[3, 4], [3], [], [5]]


def check_history(columns):
    """Oldest first, the newest in the last column, cut to the 3 newest."""
    assert columns["history_item_ids_xf"].tolist() == [
        [0, 0, 0],
        [0, 0, 5],
        [0, 5, 6],
        [5, 6, 7],
        [6, 7, 8],
        [0, 0, 0],
        [0, 0, 5],
        [0, 0, 6],
        [0, 0, 0],
        [0, 0, 5],
    ]


def check_numbers(columns):
    """Mean and variance of the rows that have a finite number; 0 for the others."""
    age = np.array([20.0] * 5 + [40.0] * 3)  # mean 27.5
    expected = np.append((age - 27.5) / np.sqrt(np.mean((age - 27.5) ** 2)), [0, 0])
    np.testing.assert_allclose(columns["user_age_xf"], expected, rtol=1e-5)
    price = np.array([1, 2, 2, 6, 1, 1, 2, 2, 1, 2.0])  # 2 where missing: the mean
    expected = (price - 2) / np.sqrt(20 / 8)
    np.testing.assert_allclose(columns["item_price_xf"], expected, rtol=1e-5)


def _changed(**changes):
    def change(columns):
        return columns | {
            f"{key}_xf": edit(columns[f"{key}_xf"]) for key, edit in changes.items()
        }

    return change


WRONG_COLUMNS = {
    "vocabulary not moved behind the buckets": (
        check_ids,
        _changed(item_id=lambda ids: ids - 4),
    ),
    "history in a space of its own": (
        check_history,
        _changed(history_item_ids=lambda ids: np.where(ids, ids - 1, 0)),
    ),
    "history pushed left": (
        check_history,
        _changed(
            history_item_ids=lambda ids: np.take_along_axis(
                ids, np.argsort(ids == 0, axis=1, kind="stable"), 1
            )
        ),
    ),
    "newest first": (check_history, _changed(history_item_ids=np.fliplr)),
    "not standardised": (check_numbers, _changed(user_age=lambda age: age * 10 + 27)),
    "missing is not the mean": (
        check_numbers,
        _changed(user_age=lambda age: np.where(age == 0, -1.0, age)),
    ),
}


@pytest.mark.component
@pytest.mark.parametrize("check", [check_ids, check_history, check_numbers])
def test_transform_graph_value(check, transformed):
    check({name: values.numpy() for name, values in transformed.items()})


@pytest.mark.component
@pytest.mark.parametrize(
    ("check", "wrong"), WRONG_COLUMNS.values(), ids=list(WRONG_COLUMNS)
)
def test_transform_checkers_reject(check, wrong, transformed):
    with pytest.raises(AssertionError):
        check(wrong({name: values.numpy() for name, values in transformed.items()}))


@pytest.mark.component
def test_transform_graph_space_counts_the_vocabularies(graph):
    space = graph.space
    assert space.item_id.num_ids == 1 + 4 + 4
    assert space.user_id.num_ids == 1 + 4 + 3
    user = {feature.name: feature.num_ids for feature in space.user}
    assert user["user_city_xf"] == 1 + 3 + 2 and user["user_age_xf"] == 0
    item = {feature.name: feature.num_ids for feature in space.item}
    assert item["item_genres_xf"] == 1 + 2 + 3 and item["item_title_xf"] == 1 + 50


@pytest.mark.component
def test_transform_graph_gives_dense_tensors_of_the_declared_names(graph, transformed):
    space = graph.space
    assert set(transformed) == {*space.query_names, *space.candidate_names}
    for name, values in transformed.items():
        assert isinstance(values, tf.Tensor)
        is_number = name in ("user_age_xf", "item_price_xf", "context_delay_xf")
        assert values.dtype == (tf.float32 if is_number else tf.int64)
        assert values.shape[0] == len(world.ROWS)


@pytest.mark.component
def test_transform_graph_of_one_side_is_enough_for_that_side(graph, transformed):
    query = _query(graph)
    assert set(query) == set(graph.space.query_names)
    item = {
        "item_id": tf.constant(["d", "new"]),
        "item_genres": tf.constant([["z", "new"], ["", ""]]),
        "item_title": tf.constant(["Se7en!", ""]),
        "item_price": tf.constant([6.0, NAN]),
    }
    candidates = graph(raw_features(item, world.CATALOG, Side.ITEM))
    assert set(candidates) == set(graph.space.candidate_names)
    assert candidates["item_id_xf"].numpy()[0] == 8
    assert 1 <= candidates["item_id_xf"].numpy()[1] <= 4
    genres = candidates["item_genres_xf"].numpy()
    assert genres[0, 0] == 5 and 1 <= genres[0, 1] <= 2 and not genres[1].any()
    np.testing.assert_array_equal(
        candidates["item_title_xf"][0, :1], transformed["item_title_xf"][3, :1]
    )
    np.testing.assert_allclose(
        candidates["item_price_xf"], [transformed["item_price_xf"][3], 0.0]
    )


@pytest.mark.component
def test_a_request_equals_the_same_row_as_an_example(graph):
    """Serving reads dense tensors, training tf.Examples: one graph, one answer."""
    for record in world.records():
        serialized = [world.serialized(record)]
        expected = graph(tf.io.parse_example(serialized, graph.raw_spec))
        inputs = {
            key: tf.constant([record.get(key, NAN if key in world.NUMBERS else "")])
            for key in (*world.KEYS, "user_club", "context_delay")
            if not isinstance(record.get(key), list)
        }
        for key in ("history_item_ids", "item_genres"):
            padded = [*record[key], *[""] * 3]  # a request pads on the right
            inputs[key] = tf.constant([padded])
        actual = graph(raw_features(inputs, world.CATALOG, *Side))
        for name, values in expected.items():
            values, other = values.numpy()[0], actual[name].numpy()[0]
            if name in ("item_genres_xf", "item_title_xf", "history_item_ids_xf"):
                values, other = (ids[ids > 0] for ids in (values, other))
            np.testing.assert_array_equal(other, values, err_msg=name)


@pytest.mark.component
@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], []),
        ([""], [0]),
        (["", "a", "", "b"], [0, 5, 6]),
        (["a", "b", "c", "d", "", ""], [6, 7, 8]),
        (["d", "d", "a"], [8, 8, 5]),
    ],
)
def test_a_requests_history_is_cut_to_the_newest(graph, history, expected):
    ids = _query(graph, history_item_ids=[history])["history_item_ids_xf"].numpy()
    assert ids.tolist() == [expected]


@pytest.mark.component
@pytest.mark.parametrize("age", [NAN, np.inf, -np.inf])
def test_a_number_that_is_none_is_the_mean(graph, age):
    assert _query(graph, user_age=[age])["user_age_xf"].numpy().tolist() == [0.0]


@pytest.mark.component
@pytest.mark.parametrize(("age", "score"), [(3.4e38, 1e6), (-3.4e38, -1e6)])
def test_a_number_at_the_edge_of_float_does_not_make_scores_nan(graph, age, score):
    """A request with such a number was answered with scores of NaN."""
    assert _query(graph, user_age=[age])["user_age_xf"].numpy().tolist() == [score]


@pytest.mark.component
def test_a_nan_in_the_log_does_not_make_a_column_nan(transformed):
    """One NaN price made the mean NaN, and with it every price."""
    assert np.isfinite(transformed["item_price_xf"]).all()


@pytest.mark.component
def test_a_feature_that_no_row_has_is_missing_and_may_be_sent(graph, transformed):
    assert not transformed["user_club_xf"].numpy().any()
    assert not transformed["context_delay_xf"].numpy().any()
    club = next(f for f in graph.space.user if f.name == "user_club_xf")
    query = _query(graph, user_club=["chess"], context_delay=[3.0])
    assert 1 <= int(query["user_club_xf"][0]) <= 8 < club.num_ids
    assert np.isfinite(query["context_delay_xf"]).all()


@pytest.mark.component
def test_a_request_for_nobody_gives_nothing(graph):
    empty = {key: value[:0] for key, value in _request().items()}
    query = graph(raw_features(empty, world.CATALOG, *QUERY))
    assert all(values.shape[0] == 0 for values in query.values())

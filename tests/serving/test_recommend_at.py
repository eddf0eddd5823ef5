"""A release that takes `now` and a k a row: what its clients send, over the wire."""

import json
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

from serving.client import PredictError, RecommendationClient
from serving.event_store import EventStore
from serving.recommend_service import RecommendService, ServiceSettings
from serving.server import HttpFront, ModelServer
from serving.sqlite_profiles import SqliteProfiles
from tests.serving.test_profiles import write_release
from tests.serving.toy_release import (
    ITEM_IDS,
    NUM_ITEMS,
    place,
    recommend_inputs,
    write_model,
)

OVER = 1_700_000_000_000  # when the first item's time is over
CLOCK = [OVER]


class TimedToy(tf.Module):
    """Returns the items in their order, the first one only before `OVER`."""

    def __init__(self):
        super().__init__()
        self._item_ids = tf.constant(ITEM_IDS)
        request = {
            "user_id": tf.TensorSpec([None], tf.string, "user_id"),
            "history_item_ids": tf.TensorSpec(
                [None, None], tf.string, "history_item_ids"
            ),
            "exclude_item_ids": tf.TensorSpec(
                [None, None], tf.string, "exclude_item_ids"
            ),
            "k": tf.TensorSpec(None, tf.int32, "k"),
            "seed": tf.TensorSpec([None], tf.int64, "seed"),
        }
        self.functions = {
            "recommend": tf.function(self._recommend).get_concrete_function(**request),
            "recommend_at": tf.function(self._recommend).get_concrete_function(
                **request, now=tf.TensorSpec([None], tf.int64, "now")
            ),
        }

    def _recommend(
        self, user_id, history_item_ids, exclude_item_ids, k, seed, now=None
    ):
        users = tf.shape(user_id)[0]
        width = tf.reduce_max(k)
        k = tf.broadcast_to(k, [users])[:, tf.newaxis]
        now = tf.zeros([users], tf.int64) if now is None else now
        first = tf.cast(now >= OVER, tf.int32)[:, tf.newaxis]
        places = tf.range(width)[tf.newaxis]
        rows = tf.minimum(first + places, NUM_ITEMS - 1)
        is_shown = places < k
        shown = tf.cast(is_shown, tf.float32)
        # What nobody reads is an input none the less.
        unread = tf.size(history_item_ids) + tf.size(exclude_item_ids) + tf.size(seed)
        return {
            "item_ids": tf.where(is_shown, tf.gather(self._item_ids, rows), ""),
            "scores": 0.5 * shown + 0.0 * tf.cast(unread, tf.float32),
            "propensities": shown,
        }


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed")
    write_model(folder / "bundle" / "recommender", TimedToy())
    root = place(folder / "bundle", folder / "root", 4, "recommender")
    profiles = SqliteProfiles(folder / "profiles.db")
    profiles.load(write_release(folder / "release", 4, [], as_of=OVER - 1000))
    events = EventStore(folder / "events.db")
    settings = ServiceSettings({"click": True}, history_length=3, policy="greedy")

    def make(calls):
        return RecommendService(calls, profiles, events, settings, lambda: CLOCK[0])

    front = HttpFront(0, make, lambda: None)
    with ModelServer(root, port=0, http=front) as running:
        yield running
    events.close()
    profiles.close()


@pytest.fixture(scope="module")
def client(server):
    with RecommendationClient(server.target) as connected:
        yield connected


@pytest.mark.parametrize(
    ("now", "first"), [(None, "i00"), (OVER - 1, "i00"), (OVER, "i01")]
)
def test_a_client_asks_for_a_moment(client, now, first):
    answer = client.recommend("ana", k=3, now=now)
    assert len(answer.item_ids) == 3 and answer.item_ids[0] == first


def test_an_earlier_release_says_that_it_knows_no_moment(good_bundle, tmp_path):
    root = place(good_bundle, tmp_path, 3, "recommender")
    with ModelServer(root, port=0) as old:
        with RecommendationClient(old.target) as client:
            with pytest.raises(PredictError, match="has no signature `recommend_at`"):
                client.recommend("ana", now=OVER)


@pytest.mark.parametrize(("now", "first"), [(OVER - 1, "i00"), (OVER, "i01")])
def test_the_http_api_asks_for_its_own_moment(server, now, first):
    CLOCK[0] = now
    url = f"http://127.0.0.1:{server.http_port}/v1/recommend"
    body = json.dumps({"user_id": "ana", "k": 2}).encode()
    with urllib.request.urlopen(url, body, timeout=60) as response:
        items = json.load(response)["items"]
    assert len(items) == 2 and items[0]["item_id"] == first


def test_a_k_for_each_row_is_served(client):
    one = recommend_inputs("ana", [], [], 3)
    inputs = {
        name: np.repeat(one[name], 2, axis=0)
        for name in ("user_id", "history_item_ids", "exclude_item_ids", "seed")
    }
    outputs, _ = client.predict(
        "recommender", "recommend", {**inputs, "k": np.array([1, 3], np.int32)}
    )
    assert outputs["item_ids"].tolist() == [
        [b"i00", b"", b""],
        [b"i00", b"i01", b"i02"],
    ]

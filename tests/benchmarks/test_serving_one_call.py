"""Two calls send what they should, and their scores are held against those of one."""

import asyncio

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks.serving_one_call import user_examples
from benchmarks.serving_two_calls import TwoCalls, differences, timed
from serving import tensor_codec

ITEMS = {
    name.encode(): tf.train.Example(
        features=tf.train.Features(
            feature={
                "item_id": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[name.encode()])
                )
            }
        )
    ).SerializeToString()
    for name in "abcd"
}


def users():
    return user_examples(
        [
            {
                "user_id": np.array([name], object),
                "history_item_ids": np.array([["", "a"]], object),
                "user_age": np.array([age], np.float32),
            }
            for name, age in (("u", 30.0), ("v", np.nan))
        ]
    )


def test_users_examples_leave_out_what_is_missing():
    first, second = (tf.train.Example.FromString(x).features.feature for x in users())
    assert first["history_item_ids"].bytes_list.value == [b"a"]
    assert first["user_age"].float_list.value == [30.0]
    assert set(second) == {"user_id", "history_item_ids"}


def test_second_call_ranks_each_users_candidates_and_the_best_come_first():
    asked = []

    async def predict(message):
        asked.append(message)
        response = predict_pb2.PredictResponse()
        if message == b"query":
            ids = np.array([[b"a", b"b"], [b"c", b"d"]], object)
            response.outputs["item_ids"].CopyFrom(tensor_codec.encode(ids))
        else:
            scores = np.array([0.1, 0.9, 0.8, 0.2], np.float32)
            response.outputs["scores"].CopyFrom(tensor_codec.encode(scores))
        return response.SerializeToString()

    two = TwoCalls(predict, ITEMS)
    ids, scores = asyncio.run(two.answer(b"query", users()))
    assert ids.tolist() == [[b"b", b"a"], [b"c", b"d"]]
    assert scores[0].tolist() == [np.float32(0.9), np.float32(0.1)]
    request = predict_pb2.PredictRequest.FromString(asked[1])
    pairs = []
    for record in tensor_codec.decode(request.inputs["examples"]):
        feature = tf.train.Example.FromString(record).features.feature
        pairs.append(
            (
                feature["user_id"].bytes_list.value[0],
                feature["item_id"].bytes_list.value[0],
            )
        )
    assert pairs == [(b"u", b"a"), (b"u", b"b"), (b"v", b"c"), (b"v", b"d")]


def test_differences_are_of_items_that_both_found():
    one = np.array([[b"a", b"b"]]), np.array([[0.5, 0.4]])
    two = np.array([[b"c", b"a"]]), np.array([[0.9, 0.25]])
    assert differences(one, two) == [0.25]


def test_each_number_is_asked_once():
    asked = []

    async def answer(number):
        asked.append(number)

    assert len(asyncio.run(timed(answer, 9, 4))) == 9
    assert sorted(asked) == list(range(9))

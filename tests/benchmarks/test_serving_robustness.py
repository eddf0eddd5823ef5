"""Hostile requests are what they say, and their answers are held against the right ones."""

import asyncio
import itertools
import json

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2

from benchmarks.serving_durability import Account, account_of
from benchmarks.serving_hostile import (
    UNREADABLE,
    GrpcAttacks,
    Hostile,
    RestAttacks,
    columns_of,
)
from benchmarks.serving_load import PREDICT
from benchmarks.serving_robustness import HttpClient, Tally

ROW = {
    "user_id": np.array(["1"], object),
    "history_item_ids": np.array([["a", "b"]], object),
    "user_age": np.array([np.nan], np.float32),
}
MORE = {"k": np.array(10, np.int32), "seed": np.array([1], np.int64)}


@pytest.fixture
def grpc_attacks():
    return GrpcAttacks(ROW, {**ROW, **MORE}, np.random.default_rng(0))


def kinds(attacks):
    return list(itertools.islice(attacks.forever(), attacks.num_kinds))


def test_what_cannot_be_read_is_all_that_is_said_to_be(grpc_attacks):
    for _ in range(20):
        for hostile in kinds(grpc_attacks):
            if hostile.path != PREDICT:
                continue
            try:
                predict_pb2.PredictRequest.FromString(hostile.body)
                is_read = True
            except DecodeError:
                is_read = False
            assert is_read != (hostile.right == UNREADABLE), hostile.kind


def test_each_kind_comes_once_a_round_and_differs_from_the_good_request(grpc_attacks):
    good = grpc_attacks._request(ROW, "serving_default").SerializeToString()
    found = kinds(grpc_attacks)
    assert len({hostile.kind for hostile in found}) == len(found) >= 20
    assert all(hostile.body != good for hostile in found)


def test_rest_attacks_hold_one_good_body_that_goes_nowhere():
    found = kinds(RestAttacks(ROW, np.random.default_rng(0)))
    assert len({hostile.kind for hostile in found}) == len(found) >= 25
    good = json.dumps({"inputs": columns_of(ROW)}).encode()
    sent = {hostile.path for hostile in found if hostile.body == good}
    assert "POST /v1/models/recommender:predict" not in sent
    assert all(hostile.right <= {400, 404, 405} for hostile in found)


def test_columns_are_those_of_rest():
    assert columns_of(ROW) == {
        "user_id": ["1"],
        "history_item_ids": [["a", "b"]],
        "user_age": [0.0],
    }


def test_tally_counts_wrong_statuses_by_kind():
    tally = Tally()
    hostile = Hostile("noise", PREDICT, b"", UNREADABLE)
    for status in ("INTERNAL", "UNKNOWN", "UNKNOWN"):
        tally.note(hostile, status)
    assert (tally.sent, dict(tally.wrong)) == (3, {("noise", "UNKNOWN"): 2})


def test_http_client_reads_whole_answers_and_connects_anew_after_a_close():
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 404 Not Found\r\nconnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    ]

    async def run():
        connections = 0

        async def serve(reader, writer):
            nonlocal connections
            connections += 1
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answers.pop(0))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = HttpClient(server.sockets[0].getsockname()[1])
        statuses = [await client.status("GET /", b"") for _ in range(3)]
        server.close()
        return statuses, connections

    assert asyncio.run(run()) == ([200, 404, 400], 2)


def log(*ids: str) -> list[str]:
    return [json.dumps({"event_id": name}) for name in ids]


WHOLE = [f"0-1-{place}" for place in range(5)]


@pytest.mark.parametrize(
    ("lines", "acknowledged", "expected"),
    [
        (log(*WHOLE), set(WHOLE), Account(0, 0, 0)),
        (log(*WHOLE), set(), Account(0, 0, 0)),  # written, its answer lost
        (log(*WHOLE), {*WHOLE, "0-2-0"}, Account(1, 0, 0)),
        (log(*WHOLE, WHOLE[0]), set(WHOLE), Account(0, 1, 0)),
        (log(*WHOLE[:3]), set(), Account(0, 0, 1)),
    ],
)
def test_account_sees_what_is_lost_repeated_or_torn(lines, acknowledged, expected):
    assert account_of(lines, acknowledged) == expected

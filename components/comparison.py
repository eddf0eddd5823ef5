"""What was found when two sets of rows were compared, and the file it is kept in."""

import enum

from pydantic import BaseModel, ConfigDict

COMPARISON_FILE = "comparison.json"


class Kind(enum.Enum):
    """What a distance is between."""

    DRIFT = "drift"  # earlier rows and the newest
    SKEW = "skew"  # what is learnt from and what was served


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Distance(_Record):
    """How far one feature lies apart, by one measure; None where a side has no values."""

    feature: str
    measure: str
    seen: float | None
    threshold: float
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the feature is near enough; a distance that is not known is not."""
        return self.seen is not None and self.seen <= self.threshold


class Comparison(_Record):
    """Two sets of rows and their distances."""

    kind: Kind
    base: str  # e.g. "2026-11-20", "the train split"
    current: str
    base_rows: int
    current_rows: int
    distances: tuple[Distance, ...]


class Comparisons(_Record):
    """`comparison.json`."""

    comparisons: tuple[Comparison, ...] = ()

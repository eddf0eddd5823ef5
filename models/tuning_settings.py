"""Settings of a search for better settings: the `tuning` section of a config."""

import enum
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str


class Search(enum.Enum):
    """How the next values to try are chosen."""

    BAYESIAN = "bayesian"  # where a Gaussian process of the trials so far hopes most
    RANDOM = "random"  # evenly


class Dimension(BaseModel):
    """The values of one key that are tried: some choices, or a range."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    choices: tuple[Scalar | tuple[Scalar, ...], ...] | None = Field(
        default=None, min_length=1, description="The values, one by one."
    )
    min: int | float | None = Field(
        default=None, description="The smallest value of a range, included."
    )
    max: int | float | None = Field(
        default=None, description="The largest value of a range, included."
    )
    log: bool = Field(
        default=False,
        description="Whether a range is even in the logarithm, so that 0.001 to 0.01 is "
        "as wide as 0.01 to 0.1.",
    )
    step: int | float | None = Field(
        default=None,
        gt=0,
        description="Distance of neighbouring values of a range; with `log`, their "
        "factor. Without one, every value between may be tried.",
    )

    def problems(self) -> Iterator[str]:
        """Yields what keeps this from being the one or the other."""
        if self.choices is not None:
            extra = {"min", "max", "log", "step"} & self.model_fields_set
            if extra:
                yield f"`choices` go without {sorted(extra)}, which are of a range."
        elif self.min is None or self.max is None:
            yield "should have `choices`, or both `min` and `max`."
        elif self.min >= self.max:
            yield f"`min` should be below `max`. Received: {self.min} and {self.max}."
        elif self.log and self.min <= 0:
            yield f"with `log`, `min` should be > 0. Received: {self.min}."
        elif self.log and self.step is not None and self.step <= 1:
            yield (
                "with `log`, `step` is a factor and should be > 1. "
                f"Received: {self.step}."
            )


class TuningSettings(BaseModel):
    """Which settings are searched, how, and for how long."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    space: dict[str, Dimension] = Field(
        default={},
        description="What is tried, by the key's path, such as "
        "`ranking.learning_rate`: keys below `ranking` or `retrieval`, of one of the two "
        "at a time.",
    )
    search: Search = Field(
        default=Search.BAYESIAN,
        description="How the next values are chosen: `bayesian` learns from the trials "
        "so far, `random` does not.",
    )
    trials: int = Field(
        default=20, ge=1, description="Trials beside the one of the config as it is."
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="After how long `tandem tune` stops, within one epoch; null for no "
        "limit. What it was at, the next call goes on with.",
    )
    seed: int = Field(
        default=7,
        ge=0,
        description="Seeds the choice of values. Each trial trains by its own `seed`.",
    )

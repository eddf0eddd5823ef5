"""Settings of the FM ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

# Close together where most numbers are, and far enough out for long tails.
_HALF = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
_KNOTS = (*(-knot for knot in reversed(_HALF)), 0.0, *_HALF)


class FMSettings(BaseModel):
    """The size of the factorisation machine and how it is regularised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(default=16, ge=1, description="Length K of a field's V.")
    l2: float = Field(
        default=1e-5,
        ge=0,
        description="Penalty on the squared V and w of the fields in a batch.",
    )
    shrinkage: float = Field(
        default=30.0,
        ge=0,
        description="An id that n training rows hold has its V and w multiplied by "
        "n / (n + shrinkage), so that rare ids do not outweigh what is known better; 0 "
        "leaves them as they are.",
    )
    id_dropout: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="Share of user ids, and of item ids, that training rows are read "
        "without, so that the rest learns to do without those of new users and items.",
    )
    numeric_knots: tuple[float, ...] = Field(
        default=_KNOTS,
        description="Where the line bends by which a number's V and w depend on it, in "
        "standard deviations from the mean; () keeps it straight.",
    )

    @field_validator("numeric_knots")
    @classmethod
    def _knots_ascend(cls, knots: tuple[float, ...]) -> tuple[float, ...]:
        if len(knots) == 1 or list(knots) != sorted(set(knots)):
            raise ValueError(
                "`numeric_knots` should be none, or two or more that ascend. "
                f"Received: {knots}"
            )
        return knots

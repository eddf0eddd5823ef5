"""Settings that the sequence rankers share; free of TensorFlow, so that a config reads
fast."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class SequenceSettings(BaseModel):
    """The sizes of the tables and the network on top, and how they are regularised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(
        default=16, ge=1, description="Length K of a field's vector."
    )
    embedding_stddev: float = Field(
        default=0.05,
        gt=0,
        description="Spread of the vectors at first. On long histories, DIEN begins to "
        "learn sooner with 0.5.",
    )
    hidden: tuple[PositiveInt, ...] = Field(
        default=(128, 64), min_length=1, description="Units of the layers on top."
    )
    dropout: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of hidden units dropped in training.",
    )
    l2: float = Field(
        default=1e-5,
        ge=0,
        description="Penalty on the squared vectors of the fields and the events in a "
        "batch.",
    )

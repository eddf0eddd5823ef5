"""Settings of the DNN ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class DNNSettings(BaseModel):
    """The sizes of the network and how it is regularised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(
        default=16, ge=1, description="Length K of a field's vector."
    )
    hidden: tuple[PositiveInt, ...] = Field(
        default=(128, 64), min_length=1, description="Units of the ReLU layers."
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

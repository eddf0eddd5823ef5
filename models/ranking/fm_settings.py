"""Settings of the FM ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field


class FMSettings(BaseModel):
    """The size of the factorisation machine and how it is regularised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(default=16, ge=1, description="Length K of a field's V.")
    l2: float = Field(
        default=1e-5,
        ge=0,
        description="Penalty on the squared V and w of the fields in a batch.",
    )

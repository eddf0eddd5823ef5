"""Settings of the SVD++ ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field


class SVDppSettings(BaseModel):
    """The size of the factors and how they are regularised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factors: int = Field(default=32, ge=1, description="Length K of p, q and y.")
    l2: float = Field(
        default=1e-5,
        ge=0,
        description="Penalty on the squared p, q, y and biases of a batch.",
    )

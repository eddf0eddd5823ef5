"""Settings of the HPMN ranker; free of TensorFlow, so that a config reads fast."""

import enum

from pydantic import BaseModel, ConfigDict, Field, PositiveInt


class CovarianceForm(enum.Enum):
    """How slots that covary are penalised."""

    NORM = "norm"  # the Frobenius norm, as in the authors' code
    SQUARE = "square"  # half its square, as in the paper


class HPMNSettings(BaseModel):
    """The sizes of the memory and of the network, and how they are regularised."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(
        default=16, ge=1, description="Length K of a field's vector."
    )
    periods: tuple[PositiveInt, ...] = Field(
        default=(1, 2, 4, 8, 16),
        min_length=1,
        description="After how many events each layer of the memory moves, from the "
        "lowest; 2^(j-1) is the paper's. The last should be about a tenth of the longest "
        "lag that matters, or more.",
    )
    memory_units: int = Field(
        default=32, ge=1, description="Numbers that a layer keeps of a user."
    )
    hops: int = Field(
        default=3, ge=1, description="How often a candidate reads the memory."
    )
    attention_hidden: tuple[PositiveInt, ...] = Field(
        default=(80, 40), description="ReLU units of the network that weighs layers."
    )
    hidden: tuple[PositiveInt, ...] = Field(
        default=(200, 80), min_length=1, description="Units of the ReLU layers."
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
        description="Penalty on the squared vectors of the fields in a batch.",
    )
    covariance: float = Field(
        default=1e-5,
        ge=0,
        description="Penalty on layers that store the same: times the sum over a batch's "
        "users, as the authors have it at batches of 128.",
    )
    covariance_form: CovarianceForm = Field(
        default=CovarianceForm.NORM,
        description="Penalise the norm of the covariances (the authors' code) or half "
        "its square (the paper).",
    )

"""Settings of the DIEN ranker; free of TensorFlow, so that a config reads fast."""

import enum

from pydantic import Field, PositiveInt

from models.layers.options import AugruForm
from models.ranking.sequence_settings import SequenceSettings


class Activation(enum.Enum):
    """Of the layers on top."""

    DICE = "dice"
    RELU = "relu"


class DIENSettings(SequenceSettings):
    """The sizes of the model and how it is regularised."""

    units: int = Field(default=32, ge=1, description="Length of both GRUs' states.")
    attention: tuple[PositiveInt, ...] = Field(
        default=(80, 40),
        min_length=1,
        description="Units of the attention's sigmoid layers.",
    )
    augru: AugruForm = Field(
        default=AugruForm.PAPER,
        description="paper: an event without attention leaves the state as it is; code: "
        "as the authors' program, where it still moves it.",
    )
    auxiliary_weight: float = Field(
        default=1.0,
        ge=0,
        description="Weight of the loss that tells the next event from others'; 0 leaves "
        "it out.",
    )
    auxiliary_hidden: tuple[PositiveInt, ...] = Field(
        default=(100, 50), description="Units of that loss's sigmoid layers."
    )
    activation: Activation = Field(
        default=Activation.DICE, description="Of the layers on top."
    )

"""Settings of the GRU4Rec ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import Field, PositiveInt

from models.ranking.sequence_settings import SequenceSettings


class GRU4RecSettings(SequenceSettings):
    """The sizes of the model and how it is regularised."""

    units: tuple[PositiveInt, ...] = Field(
        default=(32,), min_length=1, description="Length of each GRU layer's state."
    )

"""Settings of the Caser ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import Field

from models.ranking.sequence_settings import SequenceSettings


class CaserSettings(SequenceSettings):
    """The sizes of the model and how it is regularised."""

    num_events: int = Field(
        default=5, ge=1, description="L, the newest events that are looked at."
    )
    horizontal_filters: int = Field(
        default=16, ge=1, description="Filters of each height from 1 to L."
    )
    vertical_filters: int = Field(
        default=4, ge=1, description="Weighted sums of the L events."
    )
    units: int = Field(
        default=32, ge=1, description="Length of what is told of the events."
    )

"""Settings of the RUM ranker; free of TensorFlow, so that a config reads fast."""

import enum

from pydantic import Field

from models.ranking.sequence_settings import SequenceSettings


class MemoryLevel(enum.Enum):
    """What a slot of the memory holds."""

    ITEM = "item"
    FEATURE = "feature"


class RUMSettings(SequenceSettings):
    """The sizes of the model and how it is regularised."""

    level: MemoryLevel = Field(
        default=MemoryLevel.FEATURE,
        description="item: a slot holds one of the newest events; feature: what all "
        "events told of one feature.",
    )
    num_slots: int = Field(default=5, ge=1, description="Slots of the memory.")
    memory_weight: float = Field(
        default=0.2,
        ge=0,
        description="How much what is read of the memory counts beside the user.",
    )

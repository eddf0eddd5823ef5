"""Settings of the SHAN ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import Field

from models.ranking.sequence_settings import SequenceSettings


class SHANSettings(SequenceSettings):
    """The sizes of the model and how it is regularised."""

    num_newest: int = Field(
        default=10,
        ge=1,
        description="Events that are short-term; all older ones are long-term.",
    )

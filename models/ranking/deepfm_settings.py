"""Settings of the DeepFM ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import Field, PositiveInt

from models.ranking.fm_settings import FMSettings


class DeepFMSettings(FMSettings):
    """The sizes of the model and how it is regularised; those of FM, and the network's."""

    hidden: tuple[PositiveInt, ...] = Field(
        default=(256, 128), min_length=1, description="Units of the ReLU layers."
    )
    dropout: float = Field(
        default=0.5,
        ge=0,
        lt=1,
        description="Share of hidden units dropped in training.",
    )

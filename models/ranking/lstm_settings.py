"""Settings of the LSTM ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import Field

from models.ranking.sequence_settings import SequenceSettings


class LSTMSettings(SequenceSettings):
    """The sizes of the model and how it is regularised."""

    units: int = Field(default=32, ge=1, description="Length of c and of h.")

"""Settings of the DNN ranker; free of TensorFlow, so that a config reads fast."""

from models.ranking.sequence_settings import SequenceSettings


class DNNSettings(SequenceSettings):
    """The sizes of the network and how it is regularised."""

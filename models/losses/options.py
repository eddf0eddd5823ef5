"""The closed sets of choices that the losses offer; free of TensorFlow, for configs."""

import enum


class SamplingMeasure(enum.Enum):
    """What log_q of a candidate is the log of.

    The two agree on rare items. An item that most batches hold several times has a
    presence near 1, but is a negative as often as it occurs, which its expected count
    says.
    """

    PRESENCE = "presence"  # chance that a batch holds the item, <= 1: the paper's
    EXPECTED_COUNT = "expected_count"  # how often a batch holds it on average

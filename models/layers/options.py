"""Choices that layers leave open; free of TensorFlow, so that a config reads fast."""

import enum


class AugruForm(enum.Enum):
    """The two recurrences that go by the name of AUGRU."""

    PAPER = (
        "paper"  # attention scales the share of the new: 0 leaves the state as it is
    )
    CODE = "code"  # the authors' program: 1 - attention scales the share of the old

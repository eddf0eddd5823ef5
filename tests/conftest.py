"""Fixes the seeds before each test, and the Keras switch before any import of Keras."""

import random
import sys

import numpy as np
import pytest

import models  # noqa: F401  (sets TF_USE_LEGACY_KERAS)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Makes each test's randomness its own, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    # Tests that do not need TensorFlow must not pay for importing it.
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].random.set_seed(0)

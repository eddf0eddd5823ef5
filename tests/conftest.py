"""What holds for every test: seeds, the Keras switch, processes and their order."""

import os
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


# Beyond these, memory is short before the suite is faster: each loads TensorFlow and TFX.
_MOST_PROCESSES = 4


def pytest_xdist_auto_num_workers(config) -> int:
    """Returns how many processes run the tests; 0 runs them in this one.

    Whoever names tests on the command line wants them at once, without start-up.
    """
    is_whole_suite = config.args_source is not pytest.Config.ArgsSource.ARGS
    cores = len(os.sched_getaffinity(0))
    return min(cores, _MOST_PROCESSES) if is_whole_suite and cores > 1 else 0


def pytest_collection_modifyitems(items) -> None:
    """Puts the tests that take minutes first, so that no process is left alone with them."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)

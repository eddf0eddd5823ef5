"""One replica and two train the trainer's model alike: losses, weights and estimates."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models.retrieval.distribution import make_strategy, shared_batches
from models.retrieval.settings import Replicas
from tests.models.retrieval.replica_fit import (
    BATCH_SIZE,
    CASES,
    EPOCHS,
    NUM_ROWS,
    WRONG,
)

CHILD = "import models; from tests.models.retrieval import replica_fit as r; r.main()"
RIGHT = [case for case in CASES if case not in WRONG]


@pytest.fixture(scope="module")
def found():
    command = [sys.executable, "-c", CHILD]
    out = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])


def check_same_training(two, one):
    num_batches = EPOCHS * NUM_ROWS // BATCH_SIZE
    assert two["updates"] == one["updates"] == num_batches
    assert two["steps"] == one["steps"]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(two["estimates"], one["estimates"], atol=1e-5)
    assert two["weights"].keys() == one["weights"].keys()
    for name, values in two["weights"].items():
        np.testing.assert_allclose(values, one["weights"][name], atol=1e-3)
    np.testing.assert_allclose(two["saved"], one["saved"], atol=1e-3)


@pytest.mark.component
@pytest.mark.parametrize("case", RIGHT)
def test_two_replicas_train_the_towers_as_one(case, found):
    check_same_training(found["mirrored"][case], found["none"][case])


@pytest.mark.component
@pytest.mark.parametrize("wrong", WRONG)
def test_checker_of_replicas_rejects(wrong, found):
    with pytest.raises(AssertionError):
        check_same_training(found["mirrored"][wrong], found["none"]["plainest"])


@pytest.mark.component
def test_each_micro_batch_is_a_step_of_the_estimator(found):
    for of_replicas in found.values():
        assert of_replicas["plainest"]["steps"] == EPOCHS * 3
        assert of_replicas["every option"]["steps"] == EPOCHS * 6


class ManyReplicas:
    num_replicas_in_sync = 2


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [(ManyReplicas(), [4, 4]), (tf.distribute.get_strategy(), [4, 4, 1])],
)
def test_a_batch_that_is_not_full_is_left_out_where_replicas_share(strategy, expected):
    """Gathering no rows ended the process with a segmentation fault."""
    rows = ({"item_id_xf": np.arange(9)}, {"reward": np.ones(9, np.float32)})
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(4)
    shared = shared_batches(batches, 4, strategy)
    assert [len(features["item_id_xf"]) for features, _ in shared] == expected


def test_no_replicas_are_no_strategy():
    assert make_strategy(Replicas.NONE) is tf.distribute.get_strategy()


def test_mirrored_has_a_replica_on_each_device():
    num_gpus = len(tf.config.list_logical_devices("GPU"))
    num_devices = num_gpus or len(tf.config.list_logical_devices("CPU"))
    strategy = make_strategy(Replicas.MIRRORED)
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == num_devices

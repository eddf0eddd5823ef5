"""One replica with a batch of 8 and two with parts of it are the same training."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from models.losses.replicas import count_rows, fingerprints, gather_rows
from tests.models.losses import replica_training
from tests.models.losses.replica_training import NUM_ROWS, NUM_STEPS, WAYS

CHILD = "import models; from tests.models.losses import replica_training as r; r.main()"


@pytest.fixture(scope="module")
def one_replica():
    strategy = tf.distribute.get_strategy()  # none: the same code without replicas
    return replica_training.trained(WAYS["ours"], strategy, (NUM_ROWS,))


@pytest.fixture(scope="module")
def two_replicas():
    command = [sys.executable, "-c", CHILD]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    return json.loads(out.stdout.splitlines()[-1])


def check_same_training(found, expected):
    """The same losses, gradients (the tables after a step at rate 1) and estimates."""
    assert found["steps"] == NUM_STEPS
    np.testing.assert_allclose(found["losses"], expected["losses"], atol=1e-5)
    for step in range(NUM_STEPS):
        for side in range(2):
            np.testing.assert_allclose(
                found["tables"][step][side], expected["tables"][step][side], atol=1e-5
            )
    np.testing.assert_allclose(found["estimates"], expected["estimates"], atol=1e-6)


@pytest.mark.component
@pytest.mark.parametrize("name", ["ours", "ours, uneven"])
def test_two_replicas_train_as_one(name, one_replica, two_replicas):
    check_same_training(two_replicas[name], one_replica)


@pytest.mark.component
@pytest.mark.parametrize("wrong", [name for name in WAYS if name != "ours"])
def test_checker_of_replicas_rejects(wrong, one_replica, two_replicas):
    with pytest.raises(AssertionError):
        check_same_training(two_replicas[wrong], one_replica)


def test_one_replica_gathers_its_own_rows_as_they_are():
    rows, ids = tf.ones([3, 2]), tf.constant([1, 2, 3])
    gathered = gather_rows(rows, ids)
    assert gathered[0] is rows and gathered[1] is ids
    assert int(count_rows(rows)) == 3


def test_fingerprints_are_equal_where_the_ids_are():
    names = tf.constant(["a", "b", "a", "", "ä"])
    found = fingerprints(names)
    assert found.dtype == tf.int64
    _, places = np.unique(found, return_inverse=True)
    _, expected = np.unique(names, return_inverse=True)
    assert len(set(zip(places, expected, strict=True))) == 4
    np.testing.assert_array_equal(fingerprints(tf.constant([7, -1])), [7, -1])

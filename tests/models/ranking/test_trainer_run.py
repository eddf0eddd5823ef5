"""The ranking trainer as TFX calls it, from ingested rows to a loaded SavedModel."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.preprocessing import TransformGraph
from models.ranking import trainer
from models.ranking.settings import Model, RankingSettings
from models.ranking.trainer import run_fn
from tests.models import transform_world

pytestmark = pytest.mark.component

RECORDS = transform_world.records()
SERIALIZED = tf.constant([transform_world.serialized(record) for record in RECORDS])
EPOCHS = 3


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    """Returns a train and an eval file."""
    folder = tmp_path_factory.mktemp("splits")
    return [
        transform_world.write_split(folder / "train.gz", RECORDS),
        transform_world.write_split(folder / "eval.gz", RECORDS[::-1]),
    ]


def fn_args(folder: Path, transform_uri, splits, model="fm", **config):
    """Returns what TFX's Trainer would give."""
    settings = {"model": model, "batch_size": 4, "max_epochs": EPOCHS, "patience": 9}
    return types.SimpleNamespace(
        train_files=splits[:1],
        eval_files=splits[1:],
        transform_output=transform_uri,
        serving_model_dir=str(folder / "model" / "Format-Serving"),
        model_run_dir=str(folder / "run"),
        base_model=None,
        custom_config={
            "catalog": transform_world.CATALOG.model_dump_json(),
            "settings": RankingSettings.model_validate(settings).model_dump_json(),
            **config,
        },
    )


TRAIN = """
import json, sys, types
from models.ranking.trainer import run_fn
for arguments in json.load(sys.stdin):
    run_fn(types.SimpleNamespace(**arguments))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, transform_uri, splits):
    """Returns what the trainer was told of each model, all trained in one process.

    It is one of their own: the graphs of so many trainings would stay in a test process
    that holds much already, and such a one has died in the middle of them.
    """
    told = {
        model: fn_args(
            tmp_path_factory.mktemp(model.value), transform_uri, splits, model.value
        )
        for model in Model
    }
    process = subprocess.run(
        [sys.executable, "-c", TRAIN],
        input=json.dumps([vars(arguments) for arguments in told.values()]),
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    return told


@pytest.mark.parametrize("model", Model, ids=lambda model: model.value)
def test_run_fn_saves_what_the_later_stages_call(model, transform_uri, trained):
    arguments = trained[model]
    loaded = tf.saved_model.load(arguments.serving_model_dir)
    logits = loaded.signatures["logits"](SERIALIZED)["logits"].numpy()
    scores = loaded.signatures["serving_default"](SERIALIZED)["scores"].numpy()
    assert logits.shape == (len(RECORDS),) and np.isfinite(logits).all()
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    graph = TransformGraph(transform_uri, transform_world.CATALOG)
    rows = graph(tf.io.parse_example(SERIALIZED, graph.raw_spec))
    query = {name: rows[name] for name in graph.space.query_names}
    candidates = {
        name: tf.stack([rows[name], rows[name][::-1]], axis=1)
        for name in graph.space.candidate_names
    }
    many = loaded.score_candidates(query, candidates).numpy()
    assert many.shape == (len(RECORDS), 2)
    np.testing.assert_allclose(many[:, 0], logits, rtol=1e-4, atol=1e-5)
    assert (Path(arguments.model_run_dir) / "train").is_dir()
    checkpoints = Path(arguments.serving_model_dir).parent / "checkpoints"
    assert not checkpoints.exists()


class Killed(Exception):
    pass


class Kill(tf.keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise Killed


def _logits(arguments):
    loaded = tf.saved_model.load(arguments.serving_model_dir)
    return loaded.signatures["logits"](SERIALIZED)["logits"].numpy()


def test_run_fn_goes_on_from_where_another_attempt_was_killed(
    transform_uri, splits, tmp_path, monkeypatch
):
    """As a run is tried again: elsewhere, of the same inputs."""
    whole = fn_args(tmp_path / "whole", transform_uri, splits, "deepfm")
    run_fn(whole)
    kept = tmp_path / "kept"
    first, second = (
        fn_args(tmp_path / name, transform_uri, splits, "deepfm", checkpoints=str(kept))
        for name in ("first", "second")
    )
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_boards", lambda logs: [Kill()])
        with pytest.raises(Killed):
            run_fn(first)
    assert len(list(kept.iterdir())) == 1
    seen = tf.keras.callbacks.History()
    monkeypatch.setattr(trainer, "_boards", lambda logs: [seen])
    run_fn(second)
    assert seen.epoch == [2]
    np.testing.assert_array_equal(_logits(second), _logits(whole))
    assert not kept.exists()


def test_run_fn_goes_on_from_its_own_checkpoint_only(
    transform_uri, splits, tmp_path, monkeypatch
):
    """Other settings, or other rows, start at the first epoch; the killed one stays."""
    kept = tmp_path / "kept"
    killed = fn_args(tmp_path / "a", transform_uri, splits, checkpoints=str(kept))
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_boards", lambda logs: [Kill()])
        with pytest.raises(Killed):
            run_fn(killed)
    others = [
        fn_args(tmp_path / "b", transform_uri, splits, "svdpp", checkpoints=str(kept)),
        fn_args(tmp_path / "c", transform_uri, splits[::-1], checkpoints=str(kept)),
    ]
    for arguments in others:
        seen = tf.keras.callbacks.History()
        monkeypatch.setattr(trainer, "_boards", lambda logs, seen=seen: [seen])
        run_fn(arguments)
        assert seen.epoch == [0, 1, 2]
        assert len(list(kept.iterdir())) == 1

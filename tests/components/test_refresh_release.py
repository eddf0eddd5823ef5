"""A refreshed release answers as one whose index was built anew over the same items."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from components import export_bundle as export_bundle_module
from components import export_recommender as export_module
from components import refresh_release as refresh_module
from components.export_recommender import TrainedStages
from components.item_changes import find_changes
from components.record_release import RecordedRelease
from components.recorded_requests import requests_of
from components.refresh_release import (
    BaseRelease,
    RefreshError,
    RefreshSettings,
    refresh_bundle,
)
from models.index import IndexKind, SegmentedIndex
from models.index.interface import padded
from serving.release_layout import MODELS, list_releases
from serving.saved_model import SavedModel
from serving.warmup import read_warmup
from tests.components import refresh_world as world

pytestmark = pytest.mark.component

# Of 300 items, five go, five come, and five of those that stay cost more.
NUMBERS = [*range(5, world.NUM_ITEMS), *range(1000, 1005)]
CHANGED = range(50, 55)
SETTINGS = RefreshSettings(world.SETTINGS.index, world.GATE)
# How many items each model is asked for. Few tell whether the right ones were retrieved,
# all of them whether each is scored rightly, and an approximate index cannot miss any.
ASKED = {"recommender_exact": (25, 400), "recommender": (400,), "retrieval": (None,)}


def new_items():
    return world.items_table(NUMBERS, lambda n: 40 + n % 17 if n in CHANGED else n % 17)


@pytest.fixture(scope="module")
def shop():
    return world.shop_with_release()


@pytest.fixture(scope="module")
def base(shop):
    return BaseRelease(shop.serving_root, list_releases(shop.serving_root)[0])


@pytest.fixture(scope="module")
def candidates(shop):
    return shop.write_candidates("new", new_items())


@pytest.fixture(scope="module")
def refreshed(shop, base, candidates):
    bundle = shop.folder / "refreshed"
    return bundle, refresh_bundle(base, candidates, bundle, SETTINGS)


@pytest.fixture(scope="module")
def stages(base):
    """The release's stages, loaded once."""
    models = (str(base.model(name)) for name in ("retrieval", "ranking"))
    return TrainedStages.of_release(base.parts.transform_uri, *models, world.CATALOG)


@pytest.fixture(scope="module")
def ask_rebuilt(shop, candidates, requests):
    """Asks an export of the same items, whose index is built of them alone."""
    with pytest.MonkeyPatch.context() as patch:
        modules = kept_in_memory(patch, but="retrieval")
        patch.setattr(export_bundle_module, "record_release", untried)
        shop.export("rebuilt", candidates)

    def ask_one(model, k):
        if model in modules:
            return ask_module(modules[model], requests, k)
        return ask(shop.folder / "rebuilt", requests, model, k)

    return ask_one


def kept_in_memory(patch, but="") -> dict[str, tf.Module]:
    """Has models not traced and saved, but one; returns them by name once made."""
    modules = {}
    save = export_module.save_module

    def keep(module, signatures, bundle_dir, name):
        if name == but:
            save(module, signatures, bundle_dir, name)
        else:
            modules[name] = module

    patch.setattr(export_module, "save_module", keep)
    patch.setattr(export_module.Recommender, "signatures", lambda self: {})
    if not but:
        patch.setattr(export_module.RetrievalServer, "signatures", lambda self: {})
    return modules


def ask_module(module, requests: dict, k: int) -> dict:
    """Returns what a recommender in memory answers to all users."""
    inputs = {name: tf.constant(values) for name, values in requests.items()}
    answer = module.recommend(
        inputs, inputs["exclude_item_ids"], tf.constant(k), inputs["seed"]
    )
    return {name: values.numpy() for name, values in answer.items()}


def untried(*_) -> RecordedRelease:
    figures = {"users": 1, "offline_agreement": 1.0, "index_agreement": 1.0}
    return RecordedRelease([], figures)


@pytest.fixture(scope="module")
def requests(shop):
    """All users in one request, as the signature `recommend` takes it."""
    users = [world.serialized(world.user_row(n)) for n in range(world.NUM_USERS)]
    ones = requests_of(users, shop.stages().transform.raw_spec, world.CATALOG)
    inputs = [one.to_recommend(5, seed) for seed, one in enumerate(ones)]
    return {
        name: np.concatenate([one[name] for one in inputs])
        for name in inputs[0]
        if name != "k"
    }


def ask(bundle: Path, requests: dict, model: str, k: int | None) -> dict:
    """Returns a saved model's answers to all users."""
    loaded = SavedModel(bundle / model)
    try:
        if k is None:
            wanted = loaded.signatures["serving_default"].inputs
            return loaded.run(
                "serving_default", {name: requests[name] for name in wanted}
            )
        return loaded.run("recommend", requests | {"k": np.array(k, np.int32)})
    finally:
        loaded.close()


def check_equals_a_rebuild(ask_refreshed, ask_rebuilt, models):
    """Every user gets the same items, in the same order, with the same scores."""
    for model, k in [(name, k) for name in models for k in ASKED[name]]:
        ours, theirs = ask_refreshed(model, k), ask_rebuilt(model, k)
        is_equal = np.array_equal(ours["item_ids"], theirs["item_ids"])
        assert is_equal, (model, k)
        np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-5)


def test_refreshed_models_equal_a_rebuild(refreshed, ask_rebuilt, requests):
    ask_refreshed = functools.partial(ask, refreshed[0], requests)
    check_equals_a_rebuild(ask_refreshed, ask_rebuilt, ASKED)


# Each makes one thing wrong; all else of the refresh stays as it is.


def _nothing(patch, shop):
    pass


def _tombstones_forgotten(patch, shop):
    def renumbered(self, queries, wanted, fetched):
        scores, found = self._main.search(queries, fetched)
        rows = tf.maximum(tf.gather(self._main_rows, tf.maximum(found, 0)), 0)
        return scores[:, :wanted], rows[:, :wanted]

    patch.setattr(SegmentedIndex, "_renumbered", renumbered)


def _segment_not_merged(patch, shop):
    def search(self, queries, k):
        return padded(*self._search_main(queries, tf.minimum(k, self.num_items)), k)

    patch.setattr(SegmentedIndex, "search", search)


def _old_features_served(patch, shop):
    stale = shop.write_candidates("stale", world.items_table(NUMBERS))
    transformed = export_module.transformed_catalogue
    patch.setattr(
        export_module,
        "transformed_catalogue",
        lambda _, *rest: transformed(stale, *rest),
    )


def _old_vectors_of_changed_items(patch, shop):
    def blind(before, after):
        return dataclasses.replace(find_changes(before, after), changed=())

    patch.setattr(refresh_module, "find_changes", blind)


@pytest.fixture
def check_in_memory(shop, base, stages, candidates, ask_rebuilt, requests, tmp_path):
    """Checks the `recommender_exact` of a refresh of which one thing is spoilt."""

    def check(spoil):
        with pytest.MonkeyPatch.context() as patch:
            modules = kept_in_memory(patch)
            patch.setattr(TrainedStages, "of_release", lambda *_: stages)
            patch.setattr(refresh_module, "record_release", untried)
            spoil(patch, shop)
            refresh_bundle(base, candidates, tmp_path / "bundle", SETTINGS)
            check_equals_a_rebuild(
                lambda model, k: ask_module(modules[model], requests, k),
                ask_rebuilt,
                ["recommender_exact"],
            )

    return check


def test_refresh_in_memory_equals_a_rebuild(check_in_memory):
    """As the wrong ones below are checked, the right one passes."""
    check_in_memory(_nothing)


@pytest.mark.parametrize(
    "spoil",
    [
        _tombstones_forgotten,
        _segment_not_merged,
        _old_features_served,
        _old_vectors_of_changed_items,
    ],
)
def test_check_against_a_rebuild_rejects(spoil, check_in_memory):
    with pytest.raises(AssertionError):
        check_in_memory(spoil)


def test_refresh_says_what_it_did(refreshed, base):
    _, made = refreshed
    found = made.refresh.model_dump()
    assert found == {
        "base": base.version,
        "added": 5,
        "changed": 5,
        "removed": 5,
        "fresh": 10,
        "tombstones": 10,
        "rebuilt": False,
    }
    assert made.gate.passed and len(made.gate.checks) == 4


def test_bundle_is_a_releases(refreshed):
    bundle, _ = refreshed
    for model in MODELS:
        assert list(read_warmup(bundle / model)), model
    assert json.loads((bundle / "expected.json").read_text())
    kept = bundle / "parts" / "main" / "item_ids.json"
    assert len(json.loads(kept.read_text())) == world.NUM_ITEMS  # as it was built
    table = pq.read_table(bundle / "parts" / "candidates" / "items.parquet")
    is_new = table.column("item_id").to_pylist() == [f"i{n}" for n in NUMBERS]
    assert is_new


def test_refreshing_again_reuses_the_same_index_and_adds_no_weight(
    shop, refreshed, base, candidates, requests, tmp_path
):
    """Back to the first items: the answers are the first release's again."""
    bundle, _ = refreshed
    shutil.copytree(shop.serving_root, tmp_path / "serving")
    shutil.copytree(bundle, tmp_path / "refreshed")
    version = world.Shop(tmp_path).push("refreshed", candidates).version
    assert version != base.version
    again, second = BaseRelease(tmp_path / "serving", version), tmp_path / "second"
    settings = dataclasses.replace(SETTINGS, may_build=False)
    back = refresh_bundle(again, str(shop.folder / "old"), second, settings)
    assert back.refresh.base == version
    # Of the segment nothing is left but what came out a bit off when embedded again.
    assert back.refresh.fresh == back.refresh.tombstones <= 10
    check_equals_a_rebuild(
        functools.partial(ask, second, requests),
        functools.partial(ask, shop.folder / "first", requests),
        ASKED,
    )
    for model in MODELS:
        first, last = (b / model / "saved_model.pb" for b in (bundle, second))
        assert constant_bytes(last) < 1.02 * constant_bytes(first), model


def constant_bytes(path):
    """Returns how much of a SavedModel's graph is constants: vectors, ids, features.

    The file itself grows: TensorFlow wraps the functions of each look-up table once more
    whenever a loaded model is saved.
    """
    graph = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs[0]
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(n for one in functions for n in one.node_def)]
    return sum(n.attr["value"].tensor.ByteSize() for n in nodes if n.op == "Const")


@pytest.fixture
def only_the_index(monkeypatch, stages):
    """Nothing is traced, saved or tried."""
    kept_in_memory(monkeypatch)
    monkeypatch.setattr(TrainedStages, "of_release", lambda *_: stages)
    monkeypatch.setattr(refresh_module, "record_release", untried)


def test_index_that_is_due_is_built_anew_or_refused(
    base, candidates, tmp_path, only_the_index
):
    index = SETTINGS.index.model_copy(update={"max_segment_share": 0.05})
    due = dataclasses.replace(SETTINGS, index=index)
    refusing = dataclasses.replace(due, may_build=False)
    with pytest.raises(
        RefreshError, match="10 fresh and 10 gone items are 6.7% of the"
    ):
        refresh_bundle(base, candidates, tmp_path / "refused", refusing)
    made = refresh_bundle(base, candidates, tmp_path / "built", due)
    assert made.refresh.rebuilt and made.refresh.fresh == made.refresh.tombstones == 0
    main = tmp_path / "built" / "parts" / "main" / "item_ids.json"
    is_of_new_items = json.loads(main.read_text()) == [f"i{n}" for n in NUMBERS]
    assert is_of_new_items


def test_due_index_may_be_an_exact_one(base, candidates, tmp_path, only_the_index):
    update = {"kind": IndexKind.EXACT, "max_segment_share": 0.0}
    index = SETTINGS.index.model_copy(update=update)
    settings = dataclasses.replace(SETTINGS, index=index)
    made = refresh_bundle(base, candidates, tmp_path / "bundle", settings)
    assert not made.refresh.rebuilt
    assert not (tmp_path / "bundle" / "parts" / "main").exists()


def test_release_that_keeps_no_parts_is_refused(tmp_path):
    with pytest.raises(RefreshError, match="release 7 cannot be refreshed"):
        BaseRelease(tmp_path, 7).settings()

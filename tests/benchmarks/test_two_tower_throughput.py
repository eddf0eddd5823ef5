"""What is compared is the same: batches as the pipeline's, towers and loss alike."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.training_batches import batches, feature_space, item_features
from benchmarks.two_tower_throughput import (
    Cost,
    MaskingTfrs,
    PlainTfrs,
    World,
    figures,
    plots,
)
from models.retrieval.settings import RetrievalSettings
from models.signatures import transformed_signature

SPACE = feature_space(300)
ITEMS = item_features(SPACE)
WORLD = World(SPACE, ITEMS)
SIZE = 64
((FEATURES, ROW),) = batches(SPACE, ITEMS, SIZE, 1)


def test_batches_have_the_tensors_that_the_towers_read():
    names = [*SPACE.query_names, *SPACE.candidate_names]
    for name, spec in transformed_signature(SPACE, names).items():
        assert spec.is_compatible_with(tf.cast(FEATURES[name], spec.dtype))
        assert FEATURES[name].dtype == spec.dtype


def test_batches_stay_in_the_vocabulary_and_pad_on_the_left():
    history = FEATURES[SPACE.history_name].numpy()
    known = history > 0
    assert (known[:, 1:] >= known[:, :-1]).all()
    assert not known.all()
    first_known = SPACE.item_id.num_ids - 300
    items = np.concatenate([history[known], FEATURES[SPACE.item_id.name].numpy()])
    assert items.min() >= first_known
    assert items.max() < SPACE.item_id.num_ids
    assert ROW["item_id"].numpy().tolist() == [
        str(item).encode() for item in FEATURES[SPACE.item_id.name].numpy()
    ]


def test_head_items_repeat_in_a_batch_of_any_vocabulary():
    for num_items in (1_000, 1_000_000):
        space = feature_space(num_items)
        ids_alone = {space.item_id.name: item_features(space)[space.item_id.name]}
        ((features, _),) = batches(space, ids_alone, 2048, 1)
        items = features[space.item_id.name].numpy()
        counts = np.sort(np.unique(items, return_counts=True)[1])[::-1]
        assert counts[0] > 50
        assert len(counts) > 200


def test_active_items_are_as_many_in_a_vocabulary_of_any_size():
    def distinct(num_items):
        space = feature_space(num_items)
        ((features, _),) = batches(space, item_features(space), 512, 1, num_active=300)
        ids = features[space.history_name].numpy()
        return np.unique(ids[ids > 0])

    small, large = distinct(300), distinct(30_000)
    assert len(small) == len(large)
    assert large.max() - large.min() > 25_000


def test_a_batch_holds_the_features_of_its_items():
    rows = FEATURES[SPACE.item_id.name].numpy() - ITEMS[SPACE.item_id.name][0]
    for name in SPACE.candidate_names:
        np.testing.assert_array_equal(FEATURES[name], ITEMS[name][rows])


def check_tfrs_has_the_loss(kind, is_masked, features, row):
    """TFRS sums what Tandem takes the mean of."""
    settings = RetrievalSettings(
        embedding_dim=8,
        batch_size=SIZE,
        dropout=0.0,
        sampling_correction=False,
        mask_history=is_masked,
    )
    towers = WORLD.towers(settings)
    ours = towers.compute_loss((features, row), training=False)
    theirs = kind(towers, settings.temperature).compute_loss((features, row))
    np.testing.assert_allclose(theirs / SIZE, ours, rtol=1e-5)


def test_plain_tfrs_has_the_same_loss_where_nothing_is_corrected():
    # Distinct positives and no masking leave the plain in-batch softmax.
    positives = tf.range(SPACE.item_id.num_ids - SIZE, SPACE.item_id.num_ids)
    positives = tf.cast(positives, tf.int64)
    features = {**FEATURES, SPACE.item_id.name: positives}
    row = {**ROW, "item_id": tf.strings.as_string(positives)}
    check_tfrs_has_the_loss(PlainTfrs, False, features, row)


def test_masking_tfrs_has_the_same_loss_where_all_are_sampled_alike():
    check_tfrs_has_the_loss(MaskingTfrs, True, FEATURES, ROW)


class ForgetsDuplicates(MaskingTfrs):
    def __init__(self, *args):
        super().__init__(*args)
        self.task._remove_accidental_hits = False


@pytest.mark.parametrize("wrong", [PlainTfrs, ForgetsDuplicates])
def test_checker_of_the_same_loss_rejects(wrong):
    with pytest.raises(AssertionError):
        check_tfrs_has_the_loss(wrong, True, FEATURES, ROW)


def costs(*seconds):
    return Cost(cpu=list(seconds), wall=[2 * s for s in seconds])


CONTEST = {
    "tandem": costs(1.0, 2.0),
    "without_correction": costs(0.8, 2.0),
    "tfrs": costs(2.0, 3.0),
    "tfrs_adagrad": costs(1.0, 1.0),
    "tfrs_same_optimizer": costs(1.5, 2.5),
    "tfrs_same_loss": costs(3.0, 3.0),
    "unmasked": costs(0.5, 1.0),
}
SIZES = {256: costs(0.5), 512: costs(2.0)}
GROWN = {10: costs(1.0, 1.0), 10_000: costs(1.1, 1.2)}
TFRS_GROWN = {10: costs(1.0), 1_000: costs(9.0)}


def check_figures(implementation):
    found = implementation(CONTEST, SIZES, GROWN, TFRS_GROWN, 100)
    assert found["samples_per_cpu_s"] == [100, 50]
    assert found["samples_per_s"] == [50, 25]
    assert found["ratio_to_tfrs"] == [2.0, 1.5]  # above 1: ours is faster
    assert found["ratio_to_tfrs_adagrad"] == [1.0, 0.5]
    assert found["ratio_to_tfrs_same_loss"] == [3.0, 1.5]
    assert found["ratio_to_tfrs_unmasked"] == [4.0, 3.0]
    assert found["masking_overhead"] == [1.0, 1.0]
    assert found["correction_overhead"] == pytest.approx([0.25, 0.0])
    assert found["growth_vocabulary_1000x"] == [1.1, 1.2]
    assert found["growth_vocabulary_100x_tfrs"] == [9.0]
    assert found["samples_per_cpu_s_batch_512"] == [256.0]


def swapped(contest, *rest):
    return figures(
        contest | {"tandem": contest["tfrs"], "tfrs": contest["tandem"]}, *rest
    )


def by_the_clock(contest, *rest):
    return figures({k: Cost(c.wall, c.wall) for k, c in contest.items()}, *rest)


def test_figures():
    check_figures(figures)


@pytest.mark.parametrize("wrong", [swapped, by_the_clock])
def test_checker_rejects_wrong_figures(wrong):
    with pytest.raises(AssertionError):
        check_figures(wrong)


def test_growth_is_left_out_where_it_was_not_measured():
    found = figures(CONTEST, SIZES, GROWN, {}, 100)
    assert not [key for key in found if key.startswith("growth") and "tfrs" in key]


def test_plots_show_what_was_measured():
    batch, vocabulary = plots(figures(CONTEST, SIZES, GROWN, TFRS_GROWN, 100))
    assert batch.series == {"tandem": [(256, 512), (512, 256)]}
    assert vocabulary.series == {
        "tandem": [(10, 1000), (10_000, pytest.approx(1150))],
        "TFRS, Keras AdamW": [(10, 1000), (1_000, 9000)],
    }

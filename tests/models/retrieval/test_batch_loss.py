"""The loss of the towers under each of its options, against plain loops."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from models.losses.frequency import StreamingFrequencyEstimator
from models.losses.negatives import draw_uniform
from models.losses.options import SamplingMeasure
from models.retrieval.settings import RetrievalSettings
from models.retrieval.two_tower import TwoTower
from tests.models.retrieval import loss_world
from tests.models.retrieval.loss_world import IDS, NAMES

NUM_ROWS, NUM_STEPS, SEED = 8, 2, 5
# The first item is in every batch, most often twice; the third in every third.
WARM_UP = [
    [name for place, name in enumerate(NAMES[:6]) if step % (place + 1) == 0]
    + [NAMES[0]] * (step % 3)
    for step in range(12)
]
OPTIONS = {
    "presence": {},
    "expected count": {"sampling_measure": "expected_count"},
    "plain": {"sampling_correction": False},
    "refined": {"sampling_measure": "expected_count", "refined_correction": True},
    "drawn": {"drawn_negatives": 6},
    "drawn, plain": {"drawn_negatives": 6, "sampling_correction": False},
    "drawn, expected count": {
        "drawn_negatives": 6,
        "sampling_measure": "expected_count",
    },
    "drawn, refined": {
        "drawn_negatives": 6,
        "sampling_measure": "expected_count",
        "refined_correction": True,
    },
    "hard": {"hard_negatives": 3},
    "drawn, hard": {"drawn_negatives": 6, "hard_negatives": 4},
    "no mask": {"mask_history": False, "drawn_negatives": 6},
}


@functools.cache
def warmed_up():
    """Returns an estimator of either measure that has counted `WARM_UP`."""
    estimators = {
        measure: StreamingFrequencyEstimator(4096, alpha=0.3, measure=measure)
        for measure in SamplingMeasure
    }
    for names in WARM_UP:
        for estimator in estimators.values():
            estimator(tf.constant(names), training=True)
    return estimators


@functools.cache
def chances_by_step():
    """Returns how often each item is in a batch, by step, measure and name.

    Counted beside the model under test; 0 for an item that no batch has held.
    """
    met = {name for names in WARM_UP for name in names}
    out = []
    for step in range(NUM_STEPS):
        names = loss_world.batch(NUM_ROWS, seed=step)[1]["item_id"]
        met |= {name.decode() for name in names.numpy()}
        chances = {}
        for measure, warm in warmed_up().items():
            estimator = StreamingFrequencyEstimator.from_config(warm.get_config())
            estimator.set_weights(warm.get_weights())
            for earlier in range(step + 1):
                batch = loss_world.batch(NUM_ROWS, seed=earlier)
                estimator(batch[1]["item_id"], training=True)
            values = np.exp(estimator(tf.constant(NAMES)))
            chances[measure] = {
                name: float(value) if name in met else 0.0
                for name, value in zip(NAMES, values, strict=True)
            }
        out.append(chances)
    return out


def slow_loss(
    towers,
    batch,
    chances,
    draws_in_q=True,
    positive_by_count=False,
    masks_drawn=True,
    hardest_uncorrected=False,
    refined_positive_corrected=False,
):
    """Returns the loss of a batch by loops; each flag but the first set is a mistake."""
    features, row = batch
    settings = towers.settings
    queries = towers.embed_query(features).numpy().astype(np.float64)
    items = towers.embed_candidates(loss_world.item_features(np.arange(len(IDS))))
    items = items.numpy().astype(np.float64)
    history = features["history_item_ids_xf"].numpy()
    names = [name.decode() for name in row["item_id"].numpy()]
    num_drawn = settings.drawn_negatives
    step = towers.frequency.step
    drawn = draw_uniform(len(IDS), num_drawn, settings.seed, step).numpy()
    places = [NAMES.tolist().index(name) for name in names] + drawn.tolist()
    used = num_drawn if draws_in_q else 0

    def log_q(place, measure):
        if not settings.sampling_correction:
            return 0.0
        chance = chances[measure][NAMES[place]]
        mixed = chance + used / len(IDS)
        if measure is SamplingMeasure.PRESENCE:
            mixed = 1 - (1 - chance) * (1 - 1 / len(IDS)) ** used
        return np.log(mixed) if mixed else -np.inf

    losses: list[float] = []
    for i in range(len(names)):
        own = places[i]
        scores = [
            float(queries[i] @ items[p]) / float(towers.temperature) for p in places
        ]
        counted = positive_by_count or settings.sampling_measure is not (
            SamplingMeasure.EXPECTED_COUNT
        )
        positive = scores[i] - log_q(
            own, settings.sampling_measure if counted else SamplingMeasure.PRESENCE
        )
        if settings.refined_correction and not refined_positive_corrected:
            positive = scores[i]
        negatives = []
        for column, place in enumerate(places):
            is_hit = place == own or (
                settings.mask_history and IDS[place] in history[i]
            )
            is_checked = masks_drawn or column < len(names)
            if column == i or (is_hit and is_checked):
                continue
            corrected = scores[column] - log_q(place, settings.sampling_measure)
            negatives.append((scores[column], corrected))
        if settings.hard_negatives:
            by = 0 if hardest_uncorrected else 1
            negatives.sort(key=lambda pair: -pair[by])
            negatives = negatives[: settings.hard_negatives]
        if not negatives:
            losses.append(0.0)
            continue
        rest = np.log(sum(np.exp(corrected) for _, corrected in negatives))
        if settings.refined_correction:
            losses.append((rest - positive) / (1 + np.exp(positive - rest)))
        else:
            losses.append(np.logaddexp(rest, positive) - positive)
    return float(np.mean(losses * row["reward"].numpy()))


def check_loss(options, expected_loss):
    """Ours equals it at each step, the estimator learning from step to step."""
    towers = loss_world.model(seed=SEED, **options)
    measure = towers.settings.sampling_measure
    towers.frequency.set_weights(warmed_up()[measure].get_weights())
    for step in range(NUM_STEPS):
        batch = loss_world.batch(NUM_ROWS, seed=step)
        actual = towers.compute_loss(batch, training=True)
        expected = expected_loss(towers, batch, chances_by_step()[step])
        np.testing.assert_allclose(actual, expected, rtol=2e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_loss_equals_the_loops(options):
    check_loss(options, slow_loss)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("drawn", {"draws_in_q": False}),
        ("drawn", {"masks_drawn": False}),
        ("drawn, expected count", {"positive_by_count": True}),
        ("drawn, expected count", {"draws_in_q": False}),
        ("expected count", {"positive_by_count": True}),
        ("hard", {"hardest_uncorrected": True}),
        ("drawn, refined", {"refined_positive_corrected": True}),
    ],
)
def test_loss_checker_rejects(name, wrong):
    with pytest.raises(AssertionError):
        check_loss(OPTIONS[name], lambda *args: slow_loss(*args, **wrong))


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "presence"])
def test_no_option_is_the_default_under_another_name(name):
    with pytest.raises(AssertionError):
        check_loss(
            OPTIONS["presence"],
            lambda towers, batch, chances: slow_loss(
                loss_world.model(seed=SEED, **OPTIONS[name]), batch, chances
            ),
        )


def test_gradients_reach_a_drawn_item_that_no_row_holds():
    towers = loss_world.model(seed=SEED, drawn_negatives=40)
    features, row = loss_world.batch(NUM_ROWS, seed=0)
    features["history_item_ids_xf"] *= 0
    with tf.GradientTape() as tape:
        loss = towers.compute_loss((features, row), training=True)
    gradient = tape.gradient(loss, towers.item_embedding.table)
    gradient = tf.convert_to_tensor(gradient).numpy()
    unheld = sorted(set(IDS.tolist()) - set(features["item_id_xf"].numpy().tolist()))
    assert len(unheld) >= 2
    assert np.isfinite(gradient).all()
    assert gradient[unheld].any(axis=1).all()


def test_a_loss_outside_of_training_counts_nothing():
    towers = loss_world.model(drawn_negatives=6, sampling_measure="expected_count")
    batch = loss_world.batch(NUM_ROWS, seed=0)
    losses = [float(towers.compute_loss(batch, training=False)) for _ in range(2)]
    assert losses[0] == losses[1] and np.isfinite(losses[0])
    assert int(towers.frequency.step) == 0


def test_drawing_without_a_pool_is_refused():
    with pytest.raises(ValueError, match="`item_pool` should be given where"):
        TwoTower(loss_world.SPACE, RetrievalSettings(drawn_negatives=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"refined_correction": True, "sampling_correction": False},
            "set `sampling_correction: true`",
        ),
        (
            {"refined_correction": True, "sampling_measure": "presence"},
            "set `sampling_measure: expected_count`",
        ),
        ({"refined_correction": True, "hard_negatives": 5}, "keep one of the two"),
        (
            {"hard_negatives": 12, "batch_size": 10, "drawn_negatives": 3},
            "should be below the 12 negatives of a row .* Received: hard_negatives=12",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RetrievalSettings(**settings)


def test_settings_that_agree_are_taken():
    RetrievalSettings(refined_correction=True, drawn_negatives=64)
    RetrievalSettings(hard_negatives=11, batch_size=10, drawn_negatives=3)

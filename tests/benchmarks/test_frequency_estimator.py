"""The simulation of the frequency estimator, on settings whose answer is known."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import frequency_estimator as bench
from benchmarks.frequency_loops import LoopEstimator
from benchmarks.plot import drawn
from benchmarks.targets import TARGETS
from models.losses.frequency import StreamingFrequencyEstimator

# So many buckets that with this seed no two of the 1,000 items share one.
SPARSE = bench.Setting(alpha=0.05, num_buckets=1_000_000)
SEED = 2


def check_error_by_hand(error):
    """Chances .5 and .25 where .4 and .6 are true: (.1 + .35) / 4."""
    share = np.array([0.2, 0.3])
    assert error(np.array([0.5, 0.25]), share, 2) == pytest.approx(0.1125)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p, share, size: np.abs(p - share).sum() / (2 * size),
        lambda p, share, size: np.abs(p - size * share).sum() / 2,
        lambda p, share, size: np.square(p - size * share).sum() / (2 * size),
    ],
)
def test_error_is_half_the_distance_by_the_batch_size(wrong):
    check_error_by_hand(bench.error)
    with pytest.raises(AssertionError):
        check_error_by_hand(wrong)


def test_share_grows_with_the_square_and_turns_round_after_the_switch():
    before, after = bench.share_of_items(10_000), bench.share_of_items(10_001)
    assert before.sum() == pytest.approx(1)
    assert before[20] / before[10] == pytest.approx(4)
    assert before[0] == 0
    np.testing.assert_array_equal(after, before[::-1])


def check_draws(draw):
    """Two of three items without replacement: the chance of each pair is known."""
    share = np.array([0.5, 0.3, 0.2])
    batches = np.sort(draw(share, 20_000, 2, np.random.default_rng(0)), axis=1)
    pairs = {(0, 1): 0, (0, 2): 0, (1, 2): 0}
    for pair in map(tuple, batches.tolist()):
        assert pair in pairs
        pairs[pair] += 1
    for (a, b), count in pairs.items():
        chance = share[a] * share[b] * (1 / (1 - share[a]) + 1 / (1 - share[b]))
        assert abs(count / 20_000 - chance) < 4 * np.sqrt(0.25 / 20_000)


WRONG_DRAWS = {
    "with replacement": lambda share, steps, size, rng: rng.choice(
        3, size=(steps, size), p=share
    ),
    "uniform": lambda share, steps, size, rng: bench.drawn_batches(
        np.ones(3) / 3, steps, size, rng
    ),
}


def test_batches_are_drawn_in_proportion_without_replacement():
    check_draws(bench.drawn_batches)


@pytest.mark.parametrize("wrong", WRONG_DRAWS.values(), ids=WRONG_DRAWS)
def test_checker_of_draws_rejects(wrong):
    with pytest.raises(AssertionError):
        check_draws(wrong)


class HalfTheRate(StreamingFrequencyEstimator):
    def __init__(self, *args, alpha, **kwargs):
        super().__init__(*args, alpha=alpha / 2, **kwargs)


class NeverCounts(StreamingFrequencyEstimator):
    def call(self, item_ids, training=False):
        return super().call(item_ids, training=False)


def check_layer_follows_the_loops(make):
    """Without collisions the layer's error is that of the plain loops."""
    simulation = bench.LayerSimulation([SPARSE], make)
    expected = bench.loop_curves([SPARSE], 2000, seed=SEED)[SPARSE]
    for first_id in (0, 5000):  # the second begins anew
        found = bench.layer_curves(simulation, 2000, SEED, first_id)[SPARSE]
        np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_layer_follows_the_loops():
    check_layer_follows_the_loops(StreamingFrequencyEstimator)


@pytest.mark.parametrize("wrong", [HalfTheRate, NeverCounts])
def test_checker_of_the_layer_rejects(wrong):
    with pytest.raises(AssertionError):
        check_layer_follows_the_loops(wrong)


def test_loops_take_the_largest_gap_of_their_buckets():
    """Items 0 and 1 share a bucket of the first array only; gaps 2 and 4 from there."""
    loops = LoopEstimator(3, 2, 2, alpha=1.0, rng=np.random.default_rng(0))
    loops._buckets = [[0, 0, 1], [0, 1, 1]]
    loops._gap = [{0: 100.0, 1: 100.0}, {0: 100.0, 1: 100.0}]
    for step in range(8):
        loops.count(np.array([[0] if step % 2 == 0 else [1 + step // 2 % 2]]))
    # Item 0 at steps 1, 3, 5, 7; item 1 at 2 and 6; item 2 at 4 and 8.
    np.testing.assert_allclose(loops.probabilities(), [1 / 2, 1 / 2, 1 / 4])


def made_up_runs(last_step):
    """Returns runs whose error at a step is told by the step and the run."""
    steps = range(bench.READ_EVERY, last_step + 1, bench.READ_EVERY)
    return [
        {setting: [run + step / 1e6 for step in steps] for setting in bench.SETTINGS}
        for run in range(3)
    ]


def test_figures_are_the_errors_at_their_moments():
    found = bench.figures(made_up_runs(20_000))
    assert found["error_a0.01_m1"] == pytest.approx([0.01, 1.01, 2.01])
    assert found["error_a0.01_m4_after_switch"] == pytest.approx([0.02, 1.02, 2.02])
    assert found["error_a0.1_m1_t11000"][0] == pytest.approx(0.011)
    assert found["error_a0.01_m2_20k_t5000"][0] == pytest.approx(0.005)


def test_figures_hold_the_agreed_names_and_every_target():
    found = bench.figures(made_up_runs(20_000))
    agreed = {
        "error_a0.01_m1",
        "error_a0.1_m1",
        "error_a0.01_m2",
        "error_a0.01_m4",
        "error_a0.01_m1_after_switch",
    }
    assert agreed <= set(found)
    assert set(TARGETS["frequency_estimator"]) <= set(found)


def test_quick_figures_are_those_of_the_steps_it_does():
    found = bench.figures(made_up_runs(bench.QUICK.last_step))
    assert "error_a0.01_m1_t11000" in found
    assert "error_a0.01_m1_after_switch" not in found


def test_plots_show_every_setting():
    curves = made_up_runs(20_000)[0]
    plots = bench.plots(curves)
    shown = {label for plot in plots for label in plot.series}
    assert shown == {str(setting) for setting in bench.SETTINGS}
    assert all(drawn(plot).startswith("<svg") for plot in plots)


def test_mean_curves_is_the_mean_of_each_point():
    mean = bench.mean_curves(made_up_runs(2000))
    np.testing.assert_allclose(mean[bench.SETTINGS[0]], [1.001, 1.002])


def test_simulation_runs_in_one_graph():
    simulation = bench.LayerSimulation([SPARSE])
    for _ in range(2):
        simulation.count(tf.ones([3, 2], tf.int64))
    assert simulation.count.experimental_get_tracing_count() == 1

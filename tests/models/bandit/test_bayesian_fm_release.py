"""A posterior that goes on from a release's: two spans in turn are one pass over both."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from models.bandit import bayesian_fm_release as release
from models.bandit.bayesian_fm import BayesianFM
from models.bandit.bayesian_fm_release import PosteriorRecord
from models.continuation import ContinuationError
from models.feature_space import FeatureSpace
from models.ranking.labelled_rows import LabelledRows
from models.ranking.one_pass import learn_in_order
from models.ranking.settings import RankingSettings
from tests.models import training_world
from tests.models.ranking import labelled_world

BATCH = 20
SPAN = 4 * BATCH  # rows, of which the last batch is the eval split's
SIZES = {"user_id": 6, "item_id": 7, "item_genres": 7}
GROWN = {"user_id": 9, "item_id": 11, "item_genres": 11}
SETTINGS = RankingSettings.model_validate(
    {
        "model": "bayesian_fm",
        "bayesian_fm": {"embedding_dim": 2, "solver_steps": 3, "forgetting": 0.95},
        "batch_size": BATCH,
    }
)


def transform_of(sizes):
    """Returns the transform of vocabularies of these sizes: id n is that of name n."""
    transform = labelled_world.Transform()
    transform.space = FeatureSpace.from_vocabulary_sizes(training_world.CATALOG, sizes)
    return transform


def is_known(row):
    items = [*row["item_id"], *row["history_item_ids"]]
    return row["user_id"][0] <= SIZES["user_id"] and max(items) <= SIZES["item_id"]


class Learner:
    """A ranker whose update is traced once, for any number of passes."""

    def __init__(self, sizes, files):
        transform = transform_of(sizes)
        tf.keras.utils.set_random_seed(SETTINGS.seed)
        self.ranker = BayesianFM(transform.space, SETTINGS.bayesian_fm)
        self._fresh = self.ranker.get_weights()
        rows = LabelledRows(files, transform, SETTINGS).by_time()
        self._batches = list(rows)
        self._learn = tf.function(self.ranker.learn, input_signature=rows.element_spec)

    def learnt(self, restore=None, released=None, first=0):
        """Returns the tables after the batches from the given one on."""
        self.ranker.set_weights(self._fresh)
        if restore is not None:
            restore(released, self.ranker)
        for features, targets in self._batches[first:]:
            self._learn(features, targets)
        return self.ranker.get_weights()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two spans of rows in files; the first has early users and items alone.

    `released` is the SavedModel of a ranker that has learnt the first span; `whole` is
    what the tables are after one pass over both.
    """
    folder = tmp_path_factory.mktemp("spans")
    drawn = labelled_world.rows(0, 600)
    first = [row for row in drawn if is_known(row)][:SPAN]
    table = [*first, *labelled_world.rows(1, SPAN)]
    for number, row in enumerate(table):
        row["timestamp"] = 100 * (number + 1)
    parts = np.split(np.array(table, object), [SPAN - BATCH, SPAN, 2 * SPAN - BATCH])
    files = [
        labelled_world.write(folder / f"{number}.gz", part)
        for number, part in enumerate(parts)
    ]
    before, both = Learner(SIZES, files[:2]), Learner(GROWN, files)
    before.learnt()
    module = tf.Module()
    module.model = before.ranker  # as `RankingModule` has it
    released = folder / "released"
    tf.saved_model.save(module, str(released))
    release.write_record(released, record_of(before.ranker))
    return SimpleNamespace(
        folder=folder,
        files=files,
        released=released,
        ranker=before.ranker,
        whole=both.learnt(),
        learner=both,
    )


def record_of(ranker, **changed):
    record = PosteriorRecord(
        settings=release.settings_of(SETTINGS),
        field_rows=ranker.field_rows,
        trained_through=100 * SPAN,
        continued_from=None,
        num_rows=SPAN,
    )
    return record.model_copy(update=changed)


def check_continues(go_on, world):
    """The checker: after the second span, the tables are those of one pass over both."""
    for table, expected in zip(go_on(world), world.whole, strict=True):
        np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-5)


def continued(world):
    transform = transform_of(GROWN)
    train, validation = (
        LabelledRows(files, transform, SETTINGS, after=100 * SPAN)
        for files in (world.files[:3], world.files[3:])
    )
    assert (train.num_rows, validation.num_rows) == (SPAN - BATCH, BATCH)
    assert (train.newest, validation.newest) == (100 * (2 * SPAN - BATCH), 200 * SPAN)
    ranker = learn_in_order(
        transform.space,
        SETTINGS,
        train,
        validation,
        world.folder / "logs",
        base=world.released,
        learns_validation=True,
    )
    return ranker.get_weights()


def test_two_spans_in_turn_are_one_pass_over_both(world):
    check_continues(continued, world)


def by_hand(restore, first=SPAN // BATCH):
    return lambda world: world.learner.learnt(restore, world.released, first)


def nothing(model_dir, ranker):
    """Begins at the prior."""


def without_precisions(model_dir, ranker):
    prior = ranker.precisions.numpy()
    release.restore(model_dir, ranker)
    ranker.precisions.assign(prior)


def without_means(model_dir, ranker):
    prior = ranker.means.numpy()
    release.restore(model_dir, ranker)
    ranker.means.assign(prior)


def at_the_front(model_dir, ranker):
    """The rows stay where they stood, though fields before them have grown."""
    known = tf.saved_model.load(str(model_dir)).model
    for table, values in (
        (ranker.means, known.means),
        (ranker.precisions, known.precisions),
    ):
        table[: values.shape[0]].assign(values.numpy())


def forgets_once_more(model_dir, ranker):
    prior = ranker.precisions.numpy()
    release.restore(model_dir, ranker)
    ranker.precisions.assign(prior + 0.95 * (ranker.precisions - prior))


def test_checker_accepts_the_same_by_hand(world):
    check_continues(by_hand(release.restore), world)


@pytest.mark.parametrize(
    "wrong",
    [nothing, without_precisions, without_means, at_the_front, forgets_once_more],
)
def test_continuation_checker_rejects(wrong, world):
    with pytest.raises(AssertionError):
        check_continues(by_hand(wrong), world)


def test_continuation_checker_rejects_rows_that_are_learnt_twice(world):
    with pytest.raises(AssertionError):
        check_continues(by_hand(release.restore, first=0), world)


def test_known_values_keep_their_posterior_and_new_ones_are_at_the_prior(world):
    space = transform_of(GROWN).space
    tf.keras.utils.set_random_seed(1)
    fresh = BayesianFM(space, SETTINGS.bayesian_fm)
    grown = BayesianFM(space, SETTINGS.bayesian_fm)
    prior = [table.numpy() for table in grown.weights]
    release.restore(world.released, grown)
    old_first = new_first = 0
    for name, size in world.ranker.field_rows.items():
        new_size = fresh.field_rows[name]
        for known, table, initial in zip(
            world.ranker.weights, grown.weights, prior, strict=True
        ):
            kept = table[new_first : new_first + size]
            np.testing.assert_array_equal(kept, known[old_first : old_first + size])
            added = slice(new_first + size, new_first + new_size)
            np.testing.assert_array_equal(table[added], initial[added])
        old_first, new_first = old_first + size, new_first + new_size
    assert new_first == grown.means.shape[0]
    assert old_first == world.ranker.means.shape[0] < new_first


def test_prior_means_do_not_depend_on_the_size_of_vocabularies():
    tables = []
    for sizes in (SIZES, GROWN):
        tf.keras.utils.set_random_seed(1)
        model = BayesianFM(transform_of(sizes).space, SETTINGS.bayesian_fm)
        tables.append(
            np.split(model.means.numpy(), np.cumsum([*model.field_rows.values()]))
        )
    for small, large in zip(*tables, strict=True):
        np.testing.assert_array_equal(small, large[: len(small)])
    of_users, of_items = tables[1][1], tables[1][4]
    assert of_users[:, 1:].std() > 0.02 and not np.array_equal(
        of_users[:5], of_items[:5]
    )


def test_a_ranker_of_other_fields_is_an_error(world):
    ranker = BayesianFM(transform_of(GROWN).space, SETTINGS.bayesian_fm)
    ranker.field_rows = {"bias": 1, "user_id_xf": 5}
    with pytest.raises(ContinuationError, match=r"should have the fields \['bias'"):
        release.restore(world.released, ranker)


def test_a_vocabulary_that_shrank_is_an_error(world):
    smaller = SIZES | {"item_id": 6}
    ranker = BayesianFM(transform_of(smaller).space, SETTINGS.bayesian_fm)
    with pytest.raises(ContinuationError, match="has lost values"):
        release.restore(world.released, ranker)


def continuable(record, until=100 * SPAN + 1, **changed):
    settings = SETTINGS.model_dump(mode="json")
    section = settings["bayesian_fm"] | changed.pop("bayesian_fm", {})
    settings |= changed | {"bayesian_fm": section}
    release.check_continuable(record, RankingSettings.model_validate(settings), until)


def test_what_only_steers_learning_may_change(world):
    record = record_of(world.ranker)
    continuable(record)
    continuable(record, batch_size=7, seed=3)
    continuable(record, bayesian_fm={"forgetting": 0.5, "newton_steps": 2})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"bayesian_fm": {"embedding_dim": 3}},
            "ranking.bayesian_fm.embedding_dim: 3, but the posterior .* learnt with 2",
        ),
        (
            {"bayesian_fm": {"weight_deviation": 0.7}},
            "ranking.bayesian_fm.weight_deviation: 0.7, but",
        ),
        ({"target": "reward"}, "ranking.target: reward, but .* with label"),
        ({"until": 100 * SPAN}, "up to 8000 .* begins at 8000"),
    ],
)
def test_what_stands_against_a_continuation_is_named_with_the_mend(
    world, changed, message
):
    with pytest.raises(ContinuationError, match=message) as caught:
        continuable(record_of(world.ranker), **changed)
    assert str(caught.value).endswith("train anew with `--from-scratch`.")

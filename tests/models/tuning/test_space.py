import pytest

from models.ranking.settings import RankingSettings
from models.retrieval.settings import RetrievalSettings
from models.tuning.space import (
    overlay,
    search_space,
    space_problems,
    with_values,
)
from models.tuning_settings import TuningSettings

SECTIONS = {"ranking": RankingSettings(), "retrieval": RetrievalSettings()}


def dimensions(space):
    return TuningSettings.model_validate({"space": space}).space


# What is wrong, and what each message has to name.
WRONG = [
    ({"ranking.learning_rat": {"choices": [0.1]}}, ["`ranking.learning_rate`"]),
    ({"rankin.batch_size": {"choices": [8]}}, ["`ranking.batch_size`"]),
    ({"index.leaves": {"choices": [8]}}, ["no setting that can be searched"]),
    ({"ranking.deepfm": {"choices": [8]}}, ["is a section", "ranking.deepfm.l2"]),
    ({"ranking.learning_rate": {"choices": [0.1, 0]}}, ["0: Input should be greater"]),
    ({"ranking.learning_rate": {"choices": ["fast"]}}, ["'fast'"]),
    ({"ranking.deepfm.dropout": {"min": 0.5, "max": 1}}, ["1: Input should be less"]),
    ({"ranking.batch_size": {"min": 1.5, "max": 9}}, ["1.5: ", "integer"]),
    ({"ranking.batch_size": {"min": 1, "max": 9, "step": 0.5}}, ["`step`", "0.5"]),
    ({"ranking.deepfm.hidden": {"min": 1, "max": 9}}, ["no number", "`choices`"]),
    ({"ranking.deepfm.hidden": {"choices": [[8, 0]]}}, ["(8, 0)"]),
    ({"ranking.schedule": {"choices": ["sine"]}}, ["'cosine'", "'sine'"]),
    ({"ranking.target": {"choices": ["reward"]}}, ["cannot be searched"]),
    (
        {"ranking.hpmn.hops": {"choices": [1, 2]}},
        ["no effect on deepfm", "`ranking.model: hpmn`"],
    ),
    (
        {
            "ranking.model": {"choices": ["deepfm", "fm"]},
            "ranking.hpmn.hops": {"choices": [1]},
        },
        ["no effect on deepfm, fm"],
    ),
    (
        {"ranking.seed": {"choices": [1]}, "retrieval.seed": {"choices": [1]}},
        ["ranking and retrieval are trained, and judged, apart"],
    ),
]
RIGHT = [
    {"ranking.learning_rate": {"min": 0.0001, "max": "1e-2", "log": True}},
    {"ranking.deepfm.hidden": {"choices": [[64, 32], [8]]}},
    {"ranking.schedule": {"choices": ["cosine", "constant"]}},
    {"ranking.mixed_precision": {"choices": [True, False]}},
    {
        "ranking.model": {"choices": ["deepfm", "hpmn"]},
        "ranking.hpmn.hops": {"min": 1, "max": 3},
    },
    {"retrieval.batch_size": {"min": 256, "max": 4096, "log": True, "step": 2}},
    # Only together can they be refused, so it is the trial that is.
    {"retrieval.hard_negatives": {"choices": [0, 5000]}},
]


def check_problems(problems):
    for space, named in WRONG:
        found = list(problems(dimensions(space), SECTIONS))
        assert len(found) == 1, (space, found)
        assert all(text in found[0] for text in named), (found[0], named)
    for space in RIGHT:
        assert list(problems(dimensions(space), SECTIONS)) == []


def test_space_problems_value():
    check_problems(space_problems)


def silent_of_ranges(space, sections):
    """Looks at the choices alone."""
    kept = {path: d for path, d in space.items() if d.choices is not None}
    return space_problems(kept, sections)


def of_the_class(space, sections):
    """Holds the space to the defaults, whatever the config has chosen."""
    hpmn = RankingSettings.model_validate({"model": "hpmn"})
    return space_problems(space, sections | {"ranking": hpmn})


@pytest.mark.parametrize("wrong", [silent_of_ranges, of_the_class])
def test_space_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_problems(wrong)


@pytest.mark.parametrize(
    ("dimension", "named"),
    [
        ({}, "both `min` and `max`"),
        ({"min": 1}, "both `min` and `max`"),
        ({"min": 2, "max": 1}, "below"),
        ({"min": 0, "max": 1, "log": True}, "> 0"),
        ({"min": 1, "max": 8, "log": True, "step": 1}, "factor"),
        ({"choices": [1], "max": 2}, "without ['max']"),
    ],
)
def test_dimension_is_of_one_kind(dimension, named):
    space = dimensions({"ranking.batch_size": dimension})
    (problem,) = space_problems(space, SECTIONS)
    assert named in problem


@pytest.mark.parametrize("dimension", [{"choices": []}, {"choise": [1]}, {"step": 0}])
def test_dimension_of_a_wrong_form_is_refused(dimension):
    with pytest.raises(ValueError):
        dimensions({"ranking.batch_size": {"min": 1, "max": 2} | dimension})


def test_values_replace_what_is_configured_and_leave_the_rest():
    base = RankingSettings.model_validate({"deepfm": {"l2": 0.5}, "patience": 3})
    changed = with_values(base, {"deepfm.hidden": [4], "learning_rate": 0.1})
    assert changed.deepfm.hidden == (4,)
    assert (changed.learning_rate, changed.deepfm.l2, changed.patience) == (0.1, 0.5, 3)
    assert base.deepfm.hidden != (4,)


def test_overlay_is_what_a_config_file_holds():
    values = {"learning_rate": 0.1, "deepfm.l2": 0, "deepfm.hidden": [4]}
    expected = {"learning_rate": 0.1, "deepfm": {"l2": 0, "hidden": [4]}}
    assert overlay("ranking", values) == {"ranking": expected}


def test_values_are_as_the_settings_write_them():
    space = search_space(
        dimensions(
            {
                "ranking.learning_rate": {"choices": ["1e-3", 1]},
                "ranking.deepfm.l2": {"min": 0, "max": 0.123456},
                "ranking.batch_size": {"min": 3, "max": 9},
            }
        ),
        SECTIONS,
    )
    assert space.choices("learning_rate") == [0.001, 1.0]
    assert space.rounded("deepfm.l2", 0.0123456) == 0.01235
    assert space.rounded("deepfm.l2", 0.1234559) == 0.123456  # 0.1235 is outside
    assert space.rounded("batch_size", 9.7) == 9

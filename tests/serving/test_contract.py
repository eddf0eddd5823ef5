"""The checker of the contract, on the oracle and on implementations that break it."""

import numpy as np
import pytest

from serving.contract import Cap, check_edge_case, edge_cases
from tests.serving.toy_release import ITEM_IDS, expected_answer, recommend_inputs

CASES = edge_cases(recommend_inputs("ana", ["i00"], [], 4), ITEM_IDS)


def oracle(inputs):
    def texts(name):
        values = inputs[name][0]
        return [x.decode() if isinstance(x, bytes) else x for x in values]

    return expected_answer(
        texts("history_item_ids"), texts("exclude_item_ids"), int(inputs["k"])
    )


def check_contract(recommend):
    for case in CASES:
        check_edge_case(case, recommend)


def returns_the_first_twice(inputs):
    answer = oracle(inputs)
    answer["item_ids"][0, 1:2] = answer["item_ids"][0, :1]
    return answer


def ignores_exclusions(inputs):
    return oracle(inputs | {"exclude_item_ids": np.array([[""]], object)})


def invents_an_item(inputs):
    answer = oracle(inputs)
    answer["item_ids"][answer["item_ids"] == "i03"] = "i99"
    return answer


def stops_one_short(inputs):
    answer = oracle(inputs)
    for name, empty in (("item_ids", ""), ("scores", 0), ("propensities", 0)):
        answer[name][0, -1] = empty
    return answer


def drops_the_tail(inputs):
    answer = oracle(inputs)
    count = int((answer["item_ids"] != "").sum())
    return {name: array[:, :count] for name, array in answer.items()}


def scores_the_tail(inputs):
    answer = oracle(inputs)
    return answer | {"scores": np.maximum(answer["scores"], 0.01)}


def puts_the_tail_first(inputs):
    return {name: array[:, ::-1] for name, array in oracle(inputs).items()}


def knows_no_propensity(inputs):
    answer = oracle(inputs)
    return answer | {"propensities": np.zeros_like(answer["propensities"])}


def scores_nan(inputs):
    answer = oracle(inputs)
    return answer | {"scores": np.full_like(answer["scores"], np.nan)}


def answers_anew_each_time(inputs, state=np.random.default_rng(0)):  # noqa: B008
    answer = oracle(inputs)
    kept = np.flatnonzero(answer["item_ids"][0] != "")
    answer["item_ids"][0, kept] = state.permutation(answer["item_ids"][0, kept])
    return answer


WRONG = [
    returns_the_first_twice,
    ignores_exclusions,
    invents_an_item,
    stops_one_short,
    drops_the_tail,
    scores_the_tail,
    puts_the_tail_first,
    knows_no_propensity,
    scores_nan,
    answers_anew_each_time,
]


def test_contract_accepts_the_oracle():
    check_contract(oracle)


@pytest.mark.parametrize("wrong", WRONG)
def test_contract_checker_rejects(wrong):
    with pytest.raises(ValueError, match=r"should"):
        check_contract(wrong)


def test_edge_cases_take_one_user_and_keep_features():
    template = recommend_inputs("ana", ["i00"], [], 4)
    rows = {
        name: array if name == "k" else np.repeat(array, 3, axis=0)
        for name, array in template.items()
    }
    for case in edge_cases(rows, ITEM_IDS):
        assert set(case.inputs) == set(template)
        assert {len(a) for name, a in case.inputs.items() if name != "k"} == {1}


def test_an_item_that_a_feature_names_need_not_come_back():
    """A recommender that leaves the seed item out keeps its promises; it must no less."""
    template = recommend_inputs("ana", [], [], 4)
    template = template | {"context_tags": np.array([["i01", "no item"]], object)}
    named = 0
    for case in edge_cases(template, ITEM_IDS):
        tags = case.inputs["context_tags"]
        left_out = oracle(
            case.inputs
            | {"exclude_item_ids": np.hstack([case.inputs["exclude_item_ids"], tags])}
        )
        check_edge_case(case, lambda inputs, answer=left_out: answer)
        check_edge_case(case, oracle)
        named += case.min_items < case.max_items
        assert case.max_items - case.min_items <= 1 + len(
            set(case.inputs["history_item_ids"][0]) & case.allowed
        )
    assert named


# Ten items of one colour, then five of two others each.
COLOURS = {item: [f"colour{max(n // 5, 1)}"] for n, item in enumerate(ITEM_IDS)}
CAP = Cap(3, COLOURS)


def capped_oracle(inputs, cap=CAP):
    """Returns the oracle's answer without what is beyond the cap."""
    answer = oracle(inputs | {"k": np.array(len(ITEM_IDS) + 3)})
    shown: list[str] = []
    for item in filter(None, answer["item_ids"][0].tolist()):
        if max(cap.counts([*shown, item]).values(), default=0) <= cap.limit:
            shown.append(item)
    k = int(inputs["k"])
    out = {name: np.zeros_like(array[:, :k]) for name, array in answer.items()}
    out["item_ids"][:] = ""
    for place, item in enumerate(shown[:k]):
        column = answer["item_ids"][0].tolist().index(item)
        for name, array in answer.items():
            out[name][0, place] = array[0, column]
    return out


def check_caps(recommend, cap=CAP):
    template = recommend_inputs("ana", ["i00"], [], 4)
    for case in edge_cases(template, ITEM_IDS, [cap]):
        check_edge_case(case, recommend)


def test_a_capped_release_keeps_its_promises_with_fewer_items():
    check_caps(capped_oracle)
    # An item of two values may use both up: only the cap itself is then sure.
    twice = Cap(3, {item: [*values, "any"] for item, values in COLOURS.items()})
    check_caps(lambda inputs: capped_oracle(inputs, twice), twice)


@pytest.mark.parametrize(
    "wrong",
    [
        oracle,
        lambda inputs: capped_oracle(inputs, Cap(4, COLOURS)),
        lambda inputs: capped_oracle(inputs, Cap(2, COLOURS)),
    ],
    ids=["no cap", "one too many", "one too few"],
)
def test_cap_checker_rejects(wrong):
    with pytest.raises(ValueError, match="should"):
        check_caps(wrong)

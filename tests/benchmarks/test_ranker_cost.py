"""Turns and medians by hand; both models asked for once, on short histories."""

import numpy as np
import pytest

from benchmarks import ranker_cost
from benchmarks.ranker_cost import Scale, figures_of, in_turns, plot


def check_turns(in_turns):
    """The checker: who is asked when, and what of the clock each is charged."""
    now, calls = [0.0], []

    def ask(name, seconds):
        def call():
            calls.append(name)
            now[0] += seconds * (10 if len(calls) <= 2 else 1)  # the first are slow

        return call

    asked = {"a": ask("a", 0.002), "b": ask("b", 0.005)}
    spent = in_turns(asked, 4, lambda: now[0])
    assert calls == ["a", "b"] * (4 + 3)
    assert spent["a"] == pytest.approx([2.0] * 4)
    assert spent["b"] == pytest.approx([5.0] * 4)


def counts_the_first(asked, requests, clock):
    spent = in_turns(asked, requests + 3, clock)
    return {key: some[:requests] for key, some in spent.items()}


def one_after_the_other(asked, requests, clock):
    return {
        key: in_turns({key: ask}, requests, clock)[key] for key, ask in asked.items()
    }


def in_seconds(asked, requests, clock):
    spent = in_turns(asked, requests, clock)
    return {key: [ms / 1000 for ms in some] for key, some in spent.items()}


def test_requests_take_turns():
    check_turns(in_turns)


@pytest.mark.parametrize("wrong", [counts_the_first, one_after_the_other, in_seconds])
def test_turns_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_turns(wrong)


def test_figures_are_medians_and_growth_is_of_the_longest_by_the_shortest():
    spent = {
        "ms_hpmn_10": [2.0, 1.0, 9.0],
        "ms_hpmn_50": [2.0, 2.0, 2.0],
        "ms_dien_10": [1.0, 1.0, 1.0],
        "ms_dien_50": [4.0, 5.0, 6.0],
        "ms_update_hpmn": [0.5],
    }
    values, intervals = figures_of(spent, (10, 50))
    assert (values["ms_hpmn_10"], values["ms_dien_50"]) == (2.0, 5.0)
    assert (values["growth_hpmn"], values["growth_dien"]) == (1.0, 5.0)
    assert intervals["ms_dien_50"] == (4.5, 5.5)
    drawn = plot(values, (10, 50))
    assert drawn.series == {
        "hpmn": [(10, 2.0), (50, 2.0)],
        "dien": [(10, 1.0), (50, 5.0)],
    }


@pytest.mark.component
def test_memory_is_asked_as_the_history_would_be(tmp_path, monkeypatch):
    """What is timed are the models themselves: HPMN's memory is that of its history."""
    monkeypatch.setattr(ranker_cost, "NUM_ITEMS", 50)
    made = []
    make = ranker_cost.make_ranker

    def kept(*arguments):
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(ranker_cost, "make_ranker", kept)
    served = ranker_cost.saved("hpmn", tmp_path)
    history = np.array([[2, 9, 4, 9, 30]])
    state, spent = ranker_cost.written(served, history)
    assert len(spent) == 5 and state["step"] == [5]
    candidates = np.array([[3, 9]])
    inputs = {"memory": state["memory"], "user": np.array([2])}
    answer = served.run("score", inputs | {"candidates": candidates})
    query = {"user_id_xf": np.array([2]), "history_item_ids_xf": history}
    expected = made[0].score_candidates(query, {"item_id_xf": candidates})
    np.testing.assert_allclose(answer["logits"], expected, rtol=1e-4, atol=1e-6)
    served.close()


def test_lengths_are_those_of_the_figures_keys():
    assert ranker_cost.FULL.lengths == (10, 100, 1_000, 10_000)
    assert isinstance(ranker_cost.QUICK, Scale)

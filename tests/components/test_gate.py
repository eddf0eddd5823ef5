"""A gate's answer, its sentence and its file."""

import json

import pytest

from components.gate import Check, GateResult, at_least, at_most, share_at_most

GOOD = Check("recall", True, "0.2", "at least 0.18")
BAD = Check("item_title", False, "50.00% present", "at least 95.00%")


def check_passed(passed):
    """The checker: a gate passes only where it checked something and all held."""
    assert passed(GateResult("g", (GOOD,))) is True
    assert passed(GateResult("g", (GOOD, BAD))) is False
    assert passed(GateResult("g", (BAD, GOOD))) is False
    assert passed(GateResult("g", ())) is False


def test_gate_passes_only_if_every_check_does():
    check_passed(lambda result: result.passed)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda result: all(check.passed for check in result.checks),
        lambda result: any(check.passed for check in result.checks),
        lambda result: bool(result.checks) and result.checks[-1].passed,
    ],
    ids=["empty passes", "any", "last"],
)
def test_pass_checker_rejects(wrong):
    with pytest.raises(AssertionError):
        check_passed(wrong)


def test_note_belongs_to_the_reason_and_is_kept():
    result = GateResult("policy", (GOOD,), "It could not judge.")
    assert result.reason == "policy passed: 1 of 1 checks. It could not judge."
    assert GateResult.from_json(result.to_json()) == result
    assert GateResult("policy", (BAD,), "So.").reason.endswith(" So.")


def test_reason_names_the_first_failing_check():
    assert GateResult("data", (GOOD, BAD)).reason == (
        "data refused: item_title: seen 50.00% present, expected at least 95.00%."
    )
    assert GateResult("data", (BAD, BAD)).reason.endswith(" 1 more failed.")
    assert GateResult("data", (GOOD,)).reason == "data passed: 1 of 1 checks."
    assert "nothing to check" in GateResult("data", ()).reason


def test_report_survives_its_file():
    result = GateResult("data", (GOOD, BAD))
    text = result.to_json()
    assert GateResult.from_json(text) == result
    record = json.loads(text)
    assert set(record) == {"gate", "passed", "reason", "checks"}
    assert record["checks"][1] == {
        "name": "item_title",
        "passed": False,
        "seen": "50.00% present",
        "expected": "at least 95.00%",
    }


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "no json",
        '{"gate": "g", "passed": true, "checks": [{"name": "x"}]}',
        GateResult("g", (BAD,))
        .to_json()
        .replace('"passed": false,\n  "r', '"passed": true,\n  "r'),
    ],
    ids=["empty", "list", "text", "half a check", "contradiction"],
)
def test_damaged_report_is_refused(text):
    with pytest.raises(ValueError):
        GateResult.from_json(text)


def test_limits_are_inclusive_and_nan_fails():
    assert at_most("x", 2, 2).passed
    assert not at_most("x", 2.001, 2).passed
    assert at_least("x", 2, 2).passed
    assert not at_least("x", 1.999, 2).passed
    assert not at_most("x", float("nan"), 2).passed
    assert not at_least("x", float("nan"), 2).passed
    assert share_at_most("x", 1, 20, 0.05).passed
    assert not share_at_most("x", 2, 20, 0.05).passed
    assert share_at_most("x", 0, 0, 0.05).passed
    assert share_at_most("x", 2, 20, 0.05).seen == "10.00% (2 of 20)"


def test_counts_are_shown_in_full():
    many = at_least("rows", 5_289_390, 5_289_391)
    assert (many.seen, many.expected) == ("5289390", "at least 5289391")
    share = at_most("share", 0.123456789, 0.1)
    assert (share.seen, share.expected) == ("0.123457", "at most 0.1")

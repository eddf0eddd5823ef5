"""A gate's answer in its artifact: the file for people, the property for conditions."""

import json
from pathlib import Path

import pytest

from components.gate import Check, GateResult
from components.gate_file import BLESSED, GATE_FILE, REASON, publish_gate, read_gate

GOOD = Check("recall", True, "0.2", "at least 0.18")
BAD = Check("Größe", False, "50 %", "at least 95 %")
ANSWERS = {(GOOD,): 1, (GOOD, BAD): 0, (BAD,): 0, (): 0}


class Report:
    """Stands for a `GateReport` artifact: a folder and its custom properties."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        self.uri = str(folder)
        self.properties = {}

    def set_int_custom_property(self, name: str, value: int) -> None:
        self.properties[name] = value

    set_string_custom_property = set_int_custom_property


def check_publish(publish, folder: Path) -> None:
    """The checker: the property follows the answer, and the file says the same."""
    for number, (checks, blessed) in enumerate(ANSWERS.items()):
        report = Report(folder / str(number))
        publish(GateResult("data", checks), report)
        assert report.properties["blessed"] == blessed
        reason = report.properties["reason"]
        assert reason.startswith("data passed" if blessed else "data refused")
        assert reason.count("\n") == 0
        record = json.loads((Path(report.uri) / "gate.json").read_text("utf-8"))
        assert record["passed"] is bool(blessed)
        assert [check["name"] for check in record["checks"]] == [c.name for c in checks]


def test_property_and_file_follow_the_answer(tmp_path):
    check_publish(publish_gate, tmp_path)


def _blesses_all(result, report):
    publish_gate(result, report)
    report.set_int_custom_property("blessed", 1)


def _blesses_what_has_a_good_check(result, report):
    publish_gate(result, report)
    good = any(check.passed for check in result.checks)
    report.set_int_custom_property("blessed", int(good))


def _forgets_the_property(result, report):
    (Path(report.uri) / "gate.json").write_text(result.to_json())
    report.set_string_custom_property("reason", result.reason)


def _gives_the_reason_of_another_answer(result, report):
    publish_gate(result, report)
    report.set_string_custom_property("reason", GateResult("data", (GOOD,)).reason)


@pytest.mark.parametrize(
    "wrong",
    [
        _blesses_all,
        _blesses_what_has_a_good_check,
        _forgets_the_property,
        _gives_the_reason_of_another_answer,
    ],
)
def test_publish_checker_rejects(wrong, tmp_path):
    with pytest.raises((AssertionError, KeyError)):
        check_publish(wrong, tmp_path)


@pytest.mark.parametrize("checks", ANSWERS)
def test_answer_is_read_back_as_it_was(checks, tmp_path):
    report = Report(tmp_path / "report")
    publish_gate(GateResult("data", checks), report)
    assert read_gate(report.uri) == GateResult("data", checks)


def test_report_that_contradicts_its_checks_is_refused(tmp_path):
    report = Report(tmp_path / "report")
    publish_gate(GateResult("data", (BAD,)), report)
    path = Path(report.uri) / GATE_FILE
    text = path.read_text("utf-8")
    path.write_text(text.replace('"passed": false', '"passed": true', 1), "utf-8")
    with pytest.raises(ValueError, match="says passed=True, but its checks say False"):
        read_gate(report.uri)


@pytest.mark.component
def test_property_is_where_the_conditions_look(tmp_path):
    from components.artifacts import GateReport

    for number, (checks, blessed) in enumerate(ANSWERS.items()):
        report = GateReport()
        report.uri = str(tmp_path / str(number))
        Path(report.uri).mkdir()
        publish_gate(GateResult("data", checks), report)
        assert report.get_int_custom_property(BLESSED) == blessed
        reason = report.get_string_custom_property(REASON)
        assert reason == GateResult("data", checks).reason

"""What a refused run says on the terminal."""

import io

import pytest
from rich.console import Console

from components.gate import Check, GateResult
from pipeline.display import show_gates, show_refusals
from pipeline.layout import Layout


def shown(show, *arguments):
    """Returns what `show` prints."""
    console = Console(file=io.StringIO(), width=80)
    show(console, *arguments)
    return console.file.getvalue()


def refusal(gate, seen):
    return GateResult(gate, (Check("mean `label`", False, seen, "0.1 to 0.9"),))


def test_refused_log_names_its_page(tmp_path):
    layout = Layout(tmp_path)
    said = shown(show_refusals, [refusal("validate_examples", "0")], layout)
    assert "Nothing was pushed: validate_examples refused: mean `label`: seen 0" in said
    assert f"The full report is in {tmp_path}/report/metrics.json." in said
    assert f"open {tmp_path}/report/data.html in a browser." in said


def test_refused_model_is_not_sent_to_the_page_of_the_data(tmp_path):
    said = shown(show_refusals, [refusal("ranking", "0")], Layout(tmp_path))
    assert "data.html" not in said


@pytest.mark.parametrize("title", ["[/b] Bracket", "[red]Red[/red]", "[link=x]"])
def test_markup_in_the_log_is_shown_as_text(tmp_path, title):
    # A closing tag that closes nothing ended the command with a traceback.
    gate = refusal("validate_examples", title)
    assert title in shown(show_refusals, [gate], Layout(tmp_path))
    gates = {"validate_examples": {"passed": False, "reason": gate.reason}}
    assert title in shown(show_gates, gates)

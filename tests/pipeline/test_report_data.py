"""What a run's report tells of the data: distances beside the figures, and the page."""

import json

import pytest

pytestmark = pytest.mark.component  # the report imports TFDV


@pytest.fixture
def stages(tmp_path):
    """The stages of a run that the data gate refused."""
    from pipeline.run_state import StageRun, StageState

    def stage(name, output, files):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        return StageRun(StageState.DONE, {output: str(folder)}, {})

    check = {"name": "drift", "passed": False, "seen": "0.4", "expected": "at most 0.1"}
    gate = {"gate": "validate_examples", "passed": False, "checks": [check]}
    found = {"comparisons": [{"kind": "drift", "distances": [{"seen": 0.4}]}]}
    return {
        "CompareStatistics": stage(
            "compare", "comparison", {"comparison.json": json.dumps(found)}
        ),
        "ValidateExamples": stage(
            "gate", "report", {"gate.json": json.dumps(gate), "data.html": "<!doctype>"}
        ),
    }


def test_distances_stand_among_the_figures(stages):
    from pipeline.report import collect_figures

    figures = collect_figures(stages, "deepfm")
    assert figures["distances"] == [{"kind": "drift", "distances": [{"seen": 0.4}]}]
    refused = figures["gates"]["validate_examples"]
    assert refused["checks"]["drift"]["seen"] == "0.4"
    del stages["CompareStatistics"]
    assert "distances" not in collect_figures(stages, "deepfm")


def test_page_is_copied_to_the_report(stages, tmp_path):
    from pipeline.report import copy_data_report

    page = tmp_path / "data.html"
    copy_data_report({}, page)
    assert not page.exists()
    copy_data_report(stages, page)
    assert page.read_text() == "<!doctype>"

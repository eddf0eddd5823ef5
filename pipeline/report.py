"""The figures of a run in one file: `<root>/report/metrics.json`."""

import json
import shutil
from pathlib import Path

from components.candidate_selection import SELECTION_FILE
from components.comparison import COMPARISON_FILE
from components.data_report.page import PAGE_FILE
from components.gate import GateResult
from components.gate_file import read_gate
from models.retrieval.checkpoint import CHECKPOINT, read_record
from pipeline.run_state import StageRun

_GATES = {
    "ValidateExamples": "report",
    "EvaluateRetrieval": "report",
    "EvaluateRanking": "report",
    "ExportRecommender": "report",
    "EvaluatePolicy": "report",
    "ValidateServing": "report",
}


def read_gates(stages: dict[str, StageRun]) -> list[GateResult]:
    """Returns the answers of the gates that a run reached, in order."""
    return [
        read_gate(stages[stage].outputs[output])
        for stage, output in _GATES.items()
        if stage in stages and output in stages[stage].outputs
    ]


def copy_data_report(stages: dict[str, StageRun], path: Path) -> None:
    """Copies the data gate's page of a run to where a person looks for it."""
    if "ValidateExamples" in stages:
        folder = Path(stages["ValidateExamples"].outputs["report"])
        shutil.copyfile(folder / PAGE_FILE, path)


def collect_figures(stages: dict[str, StageRun], ranker: str) -> dict:
    """Returns every figure of a run; a stage that did not run leaves its part out.

    Args:
        stages: of the run.
        ranker: the ranking model's name in its evaluation.

    Returns:
        {"ingest", "distances", "training", "candidates", "retrieval", "index", "ranking",
        "serving", "policy", "gates", "release"}.
    """
    figures: dict = {}
    if "IngestEvents" in stages:
        figures["ingest"] = _read_json(
            stages["IngestEvents"].outputs["summary"], "summary.json"
        )
    if "CompareStatistics" in stages:
        figures["distances"] = _read_json(
            stages["CompareStatistics"].outputs["comparison"], COMPARISON_FILE
        )["comparisons"]
    if "Trainer.retrieval" in stages:
        figures["training"] = _training(stages["Trainer.retrieval"])
    if "SelectCandidates" in stages:
        figures["candidates"] = _read_json(
            stages["SelectCandidates"].outputs["selection"], SELECTION_FILE
        )
    if "EvaluateRetrieval" in stages:
        figures["retrieval"] = _metrics(stages["EvaluateRetrieval"])
    if "EvaluateRanking" in stages:
        ranking = _metrics(stages["EvaluateRanking"])
        figures["ranking"] = ranking | ranking.get(ranker, {})
    if "ExportRecommender" in stages:
        export = _metrics(stages["ExportRecommender"])
        figures["index"] = {"recall@100": export["recall@100"]}
        figures["serving"] = export
    if "EvaluatePolicy" in stages:
        figures["policy"] = _metrics(stages["EvaluatePolicy"])
    figures["gates"] = {
        gate.gate: {
            "passed": gate.passed,
            "reason": gate.reason,
            "checks": {
                check.name: {
                    "seen": check.seen,
                    "expected": check.expected,
                    "passed": check.passed,
                }
                for check in gate.checks
            },
        }
        for gate in read_gates(stages)
    }
    if "PushRelease" in stages:
        figures["release"] = stages["PushRelease"].properties["release"]["version"]
    return figures


def _training(stage: StageRun) -> dict:
    """Returns what retrieval's training took, and from where to where it went."""
    record = read_record(Path(stage.outputs["model"]) / CHECKPOINT)
    return {
        "trained_through": record.trained_through,
        "continued_from": record.continued_from,
        **record.cost.model_dump(),
    }


def _metrics(stage: StageRun) -> dict:
    return _read_json(stage.outputs["evaluation"], "metrics.json")


def _read_json(uri: str, name: str) -> dict:
    return json.loads((Path(uri) / name).read_text())

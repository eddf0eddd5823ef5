"""Writes and reads a gate's answer in its artifact."""

from pathlib import Path

from components.gate import GateResult

GATE_FILE = "gate.json"


def publish_gate(result: GateResult, report) -> None:
    """Writes `gate.json` and sets the property that the pipeline's conditions read.

    Args:
        result: the answer.
        report: a `GateReport` artifact.
    """
    (Path(report.uri) / GATE_FILE).write_text(result.to_json())
    report.blessed = int(result.passed)


def read_gate(uri: str) -> GateResult:
    """Reads the answer from a `GateReport` artifact's folder."""
    return GateResult.from_json((Path(uri) / GATE_FILE).read_text())

"""Writes and reads a gate's answer in its artifact, on any file system Beam knows."""

from apache_beam.io.filesystems import FileSystems

from components.gate import GateResult

GATE_FILE = "gate.json"
BLESSED = "blessed"
REASON = "reason"


def publish_gate(result: GateResult, report) -> None:
    """Writes `gate.json`, and answer and reason into ML Metadata.

    The pipeline's conditions read `blessed`; the sentence in `reason` says why.

    Args:
        result: the answer.
        report: a `GateReport` artifact.
    """
    with FileSystems.create(FileSystems.join(report.uri, GATE_FILE)) as handle:
        handle.write(result.to_json().encode())
    report.set_int_custom_property(BLESSED, int(result.passed))
    report.set_string_custom_property(REASON, result.reason)


def read_gate(uri: str) -> GateResult:
    """Reads the answer from a `GateReport` artifact's folder."""
    with FileSystems.open(FileSystems.join(uri, GATE_FILE)) as handle:
        return GateResult.from_json(handle.read().decode())

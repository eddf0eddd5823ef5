"""EvaluatePolicy: the policy gate as a TFX component."""

import json
from pathlib import Path

from absl import logging
from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts

from components.artifacts import Evaluation, GateReport, Release, ReleaseBundle
from components.evaluate_policy import judged_policies
from components.exploration_board import measure_exploration, write_exploration
from components.gate_file import publish_gate
from components.policy_board import write_board
from components.policy_gate import CANDIDATE, LAST_RELEASE
from components.policy_gate_settings import PolicyGateSettings
from components.policy_log import read_shown
from components.release_parts import parts_of_bundle
from components.release_policy import NoPolicyError, ReleasePolicy


@component
def EvaluatePolicy(
    impressions: InputArtifact[standard_artifacts.Examples],
    bundle: InputArtifact[ReleaseBundle],
    evaluation: OutputArtifact[Evaluation],
    report: OutputArtifact[GateReport],
    board: OutputArtifact[standard_artifacts.ModelRun],
    settings_json: Parameter[str],
    neutral_label: Parameter[float],
    serving_root: Parameter[str],
    last_release: InputArtifact[Release] = None,
) -> None:
    """Estimates what the exported policy would have earned on the test split.

    Args:
        impressions: its test split is the log, where rows have propensities.
        bundle: the candidate.
        evaluation: receives `metrics.json`.
        report: receives the gate's answer.
        board: receives the estimates as TensorBoard runs, with charts.
        settings_json: a `PolicyGateSettings`.
        neutral_label: of a showing without an answer.
        serving_root: holds the last release's models.
        last_release: what serves now, if anything does.
    """
    rows = read_shown(impressions.uri, "test")
    policies = {}
    if len(rows.users):
        policies[CANDIDATE] = ReleasePolicy.of_bundle(Path(bundle.uri))
        if last_release is not None:
            version = last_release.get_int_custom_property("version")
            try:
                policies[LAST_RELEASE] = ReleasePolicy.of_version(
                    Path(serving_root), version
                )
            except NoPolicyError as error:
                logging.warning("judged by what the log earned: %s", error)
    settings = PolicyGateSettings.model_validate_json(settings_json)
    figures, result = judged_policies(rows, policies, neutral_label, settings)
    if "policies" in figures:
        write_board(figures, board.uri)
        num_candidates = parts_of_bundle(Path(bundle.uri)).settings().num_candidates
        rates = measure_exploration(
            policies[CANDIDATE], rows, num_candidates, settings.evaluation.seed
        )
        write_exploration(rates, CANDIDATE, board.uri)
    metrics = json.dumps(figures, indent=2, allow_nan=False)
    (Path(evaluation.uri) / "metrics.json").write_text(metrics)
    publish_gate(result, report)
    logging.info("%s", result.reason)

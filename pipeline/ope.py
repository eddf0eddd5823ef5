"""Compares policies on a log: releases on the latest run's test split, or tables."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from components.evaluate_policy import (
    TargetOf,
    evaluate_policies,
    figures_of,
    log_of,
    metric_rewards,
    of_release,
)
from components.ingestion.errors import IngestionError
from components.policy_gate_settings import PolicyGateSettings, neutral_label
from components.policy_log import ShownRows, read_shown
from components.release_policy import NoPolicyError, ReleasePolicy
from models.bandit.off_policy import Evaluation, logged_value
from models.bandit.off_policy_intervals import interval
from models.bandit.slates import SlateError, SlateModel
from pipeline.config import ConfigError, TandemConfig
from pipeline.layout import Layout
from pipeline.ope_tables import read_log_table, read_policy_table
from pipeline.run_state import read_latest
from serving.release_layout import list_releases
from serving.release_tables import NoReleaseError

_WITHOUT_MODEL = "snips"  # what is shown of a policy that has no reward model


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a log says of some policies.

    Attributes:
        figures: see `evaluate_policy.figures_of`; each policy also has `judged_by`, the
            estimator that its row shows, and `gain`, the difference of that to what the
            log earned, with its paired interval.
        metric: that is compared.
        left_out: releases that cannot be asked, and why.
    """

    figures: dict
    metric: str
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)


def compare_releases(
    config: TandemConfig, root: Path, versions: Sequence[int] = ()
) -> Comparison:
    """Asks releases what they would have shown in the test split of the latest run.

    Args:
        config: whose run, and how to judge: `gates.policy`.
        root: of the runs and releases.
        versions: of releases; without, all that there are.

    Raises:
        IngestionError: if there is no run, or its log has no propensities.
        NoReleaseError: if there is none to ask.
    """
    layout = Layout(root.resolve())
    rows = _last_shown(layout, config.name)
    known = list_releases(layout.serving)
    absent = sorted(set(versions) - set(known))
    if absent or not known:
        raise NoReleaseError(
            f"no release {', '.join(map(str, absent)) or 'at all'} in {layout.serving}. "
            f"There are: {known}."
        )
    settings = config.gates.policy
    policies: dict[str, TargetOf] = {}
    left_out = {}
    for version in versions or known:
        name = f"release {version}"
        try:
            policy = ReleasePolicy.of_version(layout.serving, version)
        except NoPolicyError as error:
            left_out[name] = str(error)
            continue
        slates = SlateModel(settings.places.value)
        options = (settings.num_draws, settings.evaluation.seed)
        policies[name] = of_release(rows, policy.on_log(rows, slates, *options))
    if not policies:
        raise NoReleaseError("; ".join(left_out.values()))
    neutral = neutral_label(config.data)
    return _compared(rows, policies, neutral, settings, left_out)


def _last_shown(layout: Layout, config_name: str) -> ShownRows:
    stage = None
    if layout.metadata.is_file():
        stage = read_latest(str(layout.metadata), "IngestEvents", config_name)
    if stage is None:
        raise IngestionError(
            f"no ingestion of `{config_name}` in {layout.root}. Make one with `tandem run "
            f"--config {config_name} --root {layout.root}`."
        )
    rows = read_shown(stage.run.outputs["impressions"], "test")
    if not len(rows.users):
        raise IngestionError(
            f"none of the {rows.num_without:,} rows of the test split has a propensity: "
            "what another policy would have earned cannot be told. Log the chance with "
            "which each item was shown, as `propensity` in the events table."
        )
    return rows


def compare_tables(
    log_path: Path,
    policy_paths: Sequence[Path],
    neutral: float,
    settings: PolicyGateSettings,
) -> Comparison:
    """Compares policies given as tables on a log given as one, see `ope_tables`.

    Raises:
        ConfigError: if a table is not as it should be.
    """
    log = read_log_table(log_path)
    if not len(log.rows.users):
        raise ConfigError(f"{log_path}: no row has a propensity.")
    policies: dict[str, TargetOf] = {}
    for path in policy_paths:
        found = read_policy_table(path, log)
        again = set(found) & set(policies)
        if again:
            raise ConfigError(f"{path}: has policies given before: {sorted(again)}.")
        policies |= found
    return _compared(log.rows, policies, neutral, settings, {})


def _compared(
    rows: ShownRows,
    policies: Mapping[str, TargetOf],
    neutral: float,
    settings: PolicyGateSettings,
    left_out: dict[str, str],
) -> Comparison:
    try:
        found = evaluate_policies(rows, policies, neutral, settings)
    except SlateError as error:
        raise ConfigError(
            f"{error}. Where a logged chance is that of an item at its place, whatever is "
            "above it, say `places: independent`."
        ) from error
    figures = figures_of(rows, found, neutral, settings)
    earned = metric_rewards(rows.labels, rows.rewards, neutral, settings.mute_cost)
    log = log_of(rows, earned[settings.metric])
    logged, draws = logged_value(log, settings.evaluation)
    for name, evaluation in found[settings.metric].items():
        estimator = shown_estimator(evaluation, settings)
        value = evaluation.estimates[estimator].value - logged.value
        paired = evaluation.draws[estimator] - draws
        figures["policies"][name]["judged_by"] = estimator
        figures["policies"][name]["gain"] = _gain(
            value, paired, settings.evaluation.confidence
        )
    return Comparison(figures, settings.metric, left_out)


def _gain(value: float, draws: np.ndarray, confidence: float) -> dict:
    low, high = interval(draws, confidence)
    return {"value": value, "interval": [min(low, value), max(high, value)]}


def shown_estimator(evaluation: Evaluation, settings: PolicyGateSettings) -> str:
    """Returns the configured estimator, or one that needs no reward model."""
    wanted = settings.estimator
    return wanted if wanted in evaluation.estimates else _WITHOUT_MODEL

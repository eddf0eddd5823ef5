"""When a ranking model is refused."""

import math

from pydantic import BaseModel, ConfigDict, Field

from components.gate import Check, GateResult, at_least, at_most

DEFAULT_PUBLISH_TIME = "published_at"
# TFMA takes AUC over a grid of thresholds and losses in single precision; more than this
# is a difference in the rows or in the model that was scored.
_MAX_TFMA_DIFFERENCE = 0.005


class RankingGateSettings(BaseModel):
    """When a ranking model is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    beat_baselines: bool = Field(
        default=True,
        description="AUC must exceed the constant's and popularity's, and log loss be "
        "below the constant's.",
    )
    min_auc: float | None = Field(
        default=None, ge=0, le=1, description="Least AUC. null: not checked."
    )
    min_gauc: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least group AUC, the mean over users with both labels of the AUC "
        "of each one's rows, weighted by rows. null: not checked.",
    )
    max_log_loss: float | None = Field(
        default=None, ge=0, description="Largest log loss. null: not checked."
    )
    min_calibration: float | None = Field(
        default=None,
        ge=0,
        description="Least mean prediction over mean label. null: not checked.",
    )
    max_calibration: float | None = Field(
        default=None,
        ge=0,
        description="Largest mean prediction over mean label. null: not checked.",
    )
    max_auc_drop: float = Field(
        default=0.01,
        ge=0,
        description="How far AUC may fall below the last release's, absolutely.",
    )
    max_likely_auc_drop: float | None = Field(
        default=None,
        ge=0,
        description="How far the low end of the paired 95 % interval of that difference "
        "may lie below 0: asks for as many test users as it takes to be sure. null: not "
        "checked.",
    )
    max_gauc_drop: float | None = Field(
        default=None,
        ge=0,
        description="How far group AUC may fall below the last release's, absolutely. "
        "null: not checked.",
    )
    max_log_loss_rise: float = Field(
        default=0.02,
        ge=0,
        description="How far log loss may rise above the last release's, absolutely.",
    )
    min_slice_auc: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least AUC of each slice: by length of history, by age of the item, "
        "by position. null: not checked.",
    )
    max_slice_auc_drop: float | None = Field(
        default=None,
        ge=0,
        description="How far the AUC of any slice may fall below the last release's, "
        "absolutely. null: not checked.",
    )
    min_slice_rows: int = Field(
        default=1000,
        ge=1,
        description="A slice of fewer test rows, or of one label alone, is not checked.",
    )
    publish_time_column: str = Field(
        default=DEFAULT_PUBLISH_TIME,
        min_length=1,
        description="Column of the items table that says when an item came, for the "
        "slices by age. Where there is none, an item's first labelled row counts.",
    )
    board_users: tuple[str, ...] = Field(
        default=(),
        description="Users whose attention over the layers of HPMN's memory TensorBoard "
        "shows. Empty: some with recent, far and mixed interests.",
    )
    num_resamples: int = Field(
        default=400, ge=20, description="Draws of users for the intervals."
    )
    seed: int = Field(default=0, ge=0, description="Seeds the intervals.")


def judge_ranking(
    figures: dict[str, dict], settings: RankingGateSettings, model: str, last: str
) -> GateResult:
    """Decides whether the ranking model may be released.

    Args:
        figures: what `evaluate_ranking` returned, and under `tfma` what TFMA found:
            `auc`, `logloss` and `slices` as of a model.
        settings: the thresholds.
        model: name of the candidate.
        last: name of the last release's model; not in `figures` where there is none.
    """
    checks = [at_least("test rows", figures["test"]["rows"], 1)]
    if model in figures:
        own = figures[model]
        checks.append(
            at_most("rows without a prediction", own["rows_without_prediction"], 0)
        )
        checks += _checks_against_tfma(own, figures["tfma"])
        if settings.beat_baselines:
            checks += _checks_against_baselines(figures, own)
        checks += _checks_alone(own, settings)
        if last in figures:
            checks += _checks_against_last(figures, own, settings, last)
        checks += _checks_of_slices(own, figures.get(last, {}), settings)
    return GateResult("ranking", tuple(checks))


def _checks_against_tfma(own: dict, tfma: dict) -> list[Check]:
    """Compares with what TFMA made of the same rows and the same model by itself."""
    difference = abs(own["auc"] - tfma["auc"])
    checks = [at_most("difference to TFMA's auc", difference, _MAX_TFMA_DIFFERENCE)]
    differences = {"": abs(own["logloss"] - tfma["logloss"])}
    for slicing, by_label in tfma["slices"].items():
        mine = own.get("slices", {}).get(slicing, {})
        for label in {*mine, *by_label}:
            sides = [side.get(label, {}) for side in (mine, by_label)]
            rows = {side.get("rows", 0) for side in sides}
            losses = [side.get("logloss", math.nan) for side in sides]
            # What only one of them knows, or knows of other rows, is NaN.
            seen = abs(losses[0] - losses[1]) if len(rows) == 1 else math.nan
            differences[f" ({slicing} {label})"] = seen
    place = max(differences, key=lambda key: _or_infinity(differences[key]))
    name = "difference to TFMA's logloss"
    checks.append(at_most(name, differences[place], _MAX_TFMA_DIFFERENCE, place))
    return checks


def _checks_against_baselines(figures: dict[str, dict], own: dict) -> list[Check]:
    checks = [
        _exceeds("auc", own, figures[baseline], baseline)
        for baseline in ("constant", "popularity")
    ]
    bound = figures["constant"]["logloss"]
    checks.append(
        Check(
            "logloss against constant",
            own["logloss"] < bound,
            f"{own['logloss']:.4f}",
            f"< {bound:.4f}",
        )
    )
    return checks


def _exceeds(figure: str, own: dict, other: dict, name: str) -> Check:
    return Check(
        f"{figure} against {name}",
        own[figure] > other[figure],
        f"{own[figure]:.4f}",
        f"> {other[figure]:.4f}",
    )


def _checks_alone(own: dict, settings: RankingGateSettings) -> list[Check]:
    thresholds = (
        ("auc", at_least, settings.min_auc),
        ("gauc", at_least, settings.min_gauc),
        ("logloss", at_most, settings.max_log_loss),
        ("calibration", at_least, settings.min_calibration),
        ("calibration", at_most, settings.max_calibration),
    )
    return [
        check(figure, own[figure], limit)
        for figure, check, limit in thresholds
        if limit is not None
    ]


def _checks_against_last(
    figures: dict[str, dict], own: dict, settings: RankingGateSettings, last: str
) -> list[Check]:
    before = figures[last]
    checks = [
        _not_below("auc", own["auc"], before["auc"], settings.max_auc_drop),
        _not_above(
            "logloss", own["logloss"], before["logloss"], settings.max_log_loss_rise
        ),
    ]
    if settings.max_gauc_drop is not None:
        checks.append(
            _not_below("gauc", own["gauc"], before["gauc"], settings.max_gauc_drop)
        )
    if settings.max_likely_auc_drop is not None:
        low, high = figures["gain"].get(last, {}).get("auc", [math.nan] * 2)
        checks.append(
            Check(
                "likely gain of auc over the last release",
                low >= -settings.max_likely_auc_drop,
                f"{low:.4f} to {high:.4f}",
                f"at least {-settings.max_likely_auc_drop:g}",
            )
        )
    return checks


def _not_below(name: str, seen: float, before: float, drop: float) -> Check:
    bound = before - drop
    return Check(
        f"{name} against the last release",
        seen >= bound,
        f"{seen:.4f}",
        f">= {bound:.4f} ({before:.4f} less {drop:g})",
    )


def _not_above(name: str, seen: float, before: float, rise: float) -> Check:
    bound = before + rise
    return Check(
        f"{name} against the last release",
        seen <= bound,
        f"{seen:.4f}",
        f"<= {bound:.4f} ({before:.4f} and {rise:g})",
    )


def _checks_of_slices(
    own: dict, before: dict, settings: RankingGateSettings
) -> list[Check]:
    """Returns a check of each slice that is large enough to say something."""
    checks = []
    for slicing, by_label in own.get("slices", {}).items():
        for label, inside in by_label.items():
            if inside["rows"] < settings.min_slice_rows or math.isnan(inside["auc"]):
                continue
            name = f"auc where {slicing} is {label}"
            if settings.min_slice_auc is not None:
                checks.append(at_least(name, inside["auc"], settings.min_slice_auc))
            if settings.max_slice_auc_drop is not None and "slices" in before:
                last = before["slices"][slicing][label]["auc"]
                drop = settings.max_slice_auc_drop
                checks.append(_not_below(name, inside["auc"], last, drop))
    return checks


def _or_infinity(number: float) -> float:
    return math.inf if math.isnan(number) else number

"""Settings of off-policy evaluation; free of NumPy, so that a config reads fast."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class Choice(enum.Enum):
    """The rules that choose an estimator's parameter."""

    SLOPE = "slope"  # the widest step down in variance that no interval contradicts
    MSE = "mse"  # the least bound of squared bias, plus variance


class OffPolicySettings(BaseModel):
    """How policies are compared on a log, and when the log is not good enough for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: float = Field(
        default=0.95, gt=0, lt=1, description="Of every interval."
    )
    num_resamples: int = Field(
        default=1000, ge=100, description="Draws of users that intervals are made of."
    )
    num_folds: int = Field(
        default=3, ge=2, description="Parts of users that reward models are crossed by."
    )
    seed: int = Field(default=0, ge=0, description="Of draws and folds.")
    choice: Choice = Field(
        default=Choice.SLOPE,
        description="How parameters of estimators are chosen: `slope`, or `mse` by Su et "
        "al.'s bound.",
    )
    parameters: tuple[float, ...] = Field(
        default=(1, 5, 10, 50, 100, 500, 1000, 5000, 10000),
        min_length=1,
        description="What is chosen from: largest weights, and strengths of shrinkage.",
    )
    min_effective_rounds: float = Field(
        default=100,
        ge=0,
        description="Least effective sample size; below it no estimate counts.",
    )
    warn_effective_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of effective rounds in all below which there is a warning.",
    )
    max_weight_share: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Largest share of one round in all weights; above it no estimate "
        "counts.",
    )
    warn_weight_share: float = Field(
        default=0.02, gt=0, le=1, description="Share from which there is a warning."
    )
    max_unsupported: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest share of the target policy's choices that the log cannot "
        "show; a tenth of it warns.",
    )
    max_mean_weight_errors: float = Field(
        default=4.0,
        gt=0,
        description="How many standard errors the mean weight may be away from 1. Further "
        "away, propensities are not what served; half as far, there is a warning.",
    )

"""When the data gate refuses a log."""

import difflib
from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.features import (
    EVENT_TYPE,
    HISTORY,
    ITEM_ID,
    LABEL,
    POSITION,
    PROPENSITY,
    REWARD,
    USER_ID,
    VALUE,
    FeatureCatalog,
)

DATA_GATE = "validate_examples"

_SERVED = {USER_ID: False, ITEM_ID: False, HISTORY: False}  # key -> is a number
_LOGGED = {
    EVENT_TYPE: False,
    LABEL: True,
    REWARD: True,
    VALUE: True,
    POSITION: True,
    PROPENSITY: True,
}


class DistanceThresholds(BaseModel):
    """How far apart the distributions of one feature may lie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    linf: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Largest change in the share of a single value; of features whose "
        "values are strings. The right one for ids: it does not grow with their number.",
    )
    jensen_shannon: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Jensen-Shannon divergence in bits, 0 to 1; of strings and numbers. "
        "Samples of one distribution lie apart too, the further the fewer rows and the "
        "more values there are.",
    )
    missing: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Change in the share of rows without the feature, which the other "
        "two do not look at.",
    )

    def given(self) -> dict[str, float]:
        """Returns the thresholds that are set, by measure."""
        return self.model_dump(exclude_none=True)


class ValidationSettings(BaseModel):
    """When the data gate refuses a log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_dead_letter_share: float = Field(
        default=0.05, ge=0, le=1, description="Of the records read, per source."
    )
    max_span_dead_letter_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Of the records read of one span of a source: a bad day does not "
        "hide behind good ones.",
    )
    max_bad_propensities: int = Field(
        default=0,
        ge=0,
        description="Events refused for a propensity outside (0, 1]. One is enough to "
        "doubt all the others, which off-policy evaluation divides by.",
    )
    max_unknown_item_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Of the events kept, those on items that the items table lacks.",
    )
    max_capped_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Of the accepted events, those over "
        "`data.max_events_per_user_per_day`.",
    )
    max_orphan_response_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Of the responses, those without an impression of their user, "
        "request and item: what a broken join looks like.",
    )
    max_early_response_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Of the responses, those before each of their impressions: what two "
        "clocks that differ look like.",
    )
    max_late_response_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Of the responses, those after `data.response_window_minutes`.",
    )
    min_events: int = Field(default=1, ge=0, description="Accepted events.")
    min_users: int = Field(default=2, ge=0, description="Users with an event.")
    min_items: int = Field(default=2, ge=0, description="Items of the catalogue.")
    allow_single_label: bool = Field(
        default=False,
        description="Whether all labels of a split may be the same. A ranker learns "
        "nothing from such a train split, and AUC has no value on such a test split.",
    )
    min_label_mean: float = Field(
        default=1e-4, ge=0, le=1, description="Of the labels of each split."
    )
    max_label_mean: float = Field(
        default=0.9999, ge=0, le=1, description="Of the labels of each split."
    )
    allow_partial_propensities: bool = Field(
        default=False,
        description="Whether some rows may have a propensity and others none (sampled "
        "negatives have none and do not count). Off-policy evaluation can use those "
        "that have one; were they left out for a reason, its answer is biased.",
    )
    min_propensity: float = Field(
        default=1e-6,
        ge=0,
        le=1,
        description="Smallest propensity of a row. 1 / propensity is the row's weight "
        "in off-policy evaluation.",
    )
    min_effective_sample_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Kish's effective sample size of the weights 1 / propensity, of the "
        "rows with a propensity, per split. Near 0, a few rows decide every estimate.",
    )
    max_anomalies: int = Field(
        default=0,
        ge=0,
        description="TFDV anomalies over all splits, by the curated schema.",
    )
    statistics_sample_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Of the labelled rows, those that TFDV's statistics, and so the "
        "schema's anomalies, are worked out from. TFDV looks at a few thousand rows a "
        "second: take less than all of many millions.",
    )
    drift: dict[str, DistanceThresholds] = Field(
        default={},
        description="Row key (`label`, `item_id`, `user_age`, ...) -> how far it may "
        "drift: the newest dated span from the one before, or, in a log without two "
        "dated spans, the test split from the train split.",
    )
    skew: dict[str, DistanceThresholds] = Field(
        default={},
        description="Key of a model input -> how far the served examples may lie from "
        "the train split.",
    )
    serving_examples: str | None = Field(
        default=None,
        min_length=1,
        description="Path or glob of TFRecord files (`.gz` or plain) of tf.Examples of "
        "raw features as they were served, for `skew`; relative to the root folder.",
    )
    max_compared_rows: int = Field(
        default=1_000_000,
        ge=1,
        description="Rows of one side of a comparison that are looked at, about; of "
        "more, a sample that is the same in each run. Splits are read for it only where "
        "`statistics_sample_share` is below 1.",
    )

    @model_validator(mode="after")
    def _means_are_in_order(self) -> "ValidationSettings":
        if self.min_label_mean > self.max_label_mean:
            raise ValueError(
                f"`min_label_mean` should be <= `max_label_mean`. Received: "
                f"{self.min_label_mean} > {self.max_label_mean}"
            )
        return self

    def problems(self, catalog: FeatureCatalog) -> Iterator[str]:
        """Yields what is wrong with `drift` and `skew`, given the declared features."""
        features = {column.key: column.is_number for column in catalog.columns()}
        served = _SERVED | features
        if self.skew and self.serving_examples is None:
            yield (
                "gates.data.serving_examples: missing; the `skew` of "
                f"{sorted(self.skew)} needs the path of what was served."
            )
        for section, known in (("drift", served | _LOGGED), ("skew", served)):
            for key, thresholds in getattr(self, section).items():
                place = f"gates.data.{section}.{key}"
                if key not in known:
                    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                    yield (
                        f"{place}: unknown feature. Did you mean `{nearest[0]}`? "
                        f"Valid here: {sorted(known)}."
                    )
                elif not thresholds.given():
                    yield f"{place}: give `linf`, `jensen_shannon` or `missing`."
                elif known[key] and thresholds.linf is not None:
                    yield (
                        f"{place}.linf: `{key}` is a number, and `linf` compares the "
                        "shares of single values. Use `jensen_shannon`."
                    )

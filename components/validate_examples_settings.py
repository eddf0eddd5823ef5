"""When the data gate refuses a log."""

from pydantic import BaseModel, ConfigDict, Field


class ValidationSettings(BaseModel):
    """When the data gate refuses a log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_dead_letter_share: float = Field(
        default=0.05, ge=0, le=1, description="Of the records read, per source."
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
        description="Of the accepted events, those on items that the items table lacks.",
    )
    min_events: int = Field(default=1, ge=0, description="Accepted events.")
    min_users: int = Field(default=2, ge=0, description="Users with an event.")
    min_items: int = Field(default=2, ge=0, description="Items of the catalogue.")
    max_anomalies: int = Field(
        default=0,
        ge=0,
        description="TFDV anomalies over all splits, by the curated schema.",
    )

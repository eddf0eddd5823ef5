"""Settings of the export gate; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field


class ExportGateSettings(BaseModel):
    """When exported models are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_users: int = Field(
        default=200, ge=1, description="Test users whose answers are compared."
    )
    min_offline_agreement: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of users whose top 10 equals the offline computation's.",
    )
    min_index_agreement: float = Field(
        default=0.98,
        ge=0,
        le=1,
        description="Share of `recommender_exact`'s top 10 that `recommender` keeps.",
    )

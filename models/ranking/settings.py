"""Settings of the ranking model: the `ranking` section of a config."""

from pydantic import BaseModel, ConfigDict, Field

from models.ranking.deepfm_settings import DeepFMSettings


class RankingSettings(BaseModel):
    """Which ranker is trained, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deepfm: DeepFMSettings = Field(
        default=DeepFMSettings(), description="Sizes and regularisation of DeepFM."
    )
    batch_size: int = Field(default=1024, ge=1, description="Rows a step.")
    max_epochs: int = Field(default=20, ge=1, description="Passes at most.")
    patience: int = Field(
        default=2,
        ge=0,
        description="Epochs without a better log loss on the eval split before stopping.",
    )
    learning_rate: float = Field(default=0.001, gt=0, description="Adam's step size.")
    seed: int = Field(
        default=7, ge=0, description="Seeds initial weights and shuffling."
    )

"""Settings of the retrieval model: the `retrieval` section of a config."""

from pydantic import BaseModel, ConfigDict, Field


class RetrievalSettings(BaseModel):
    """How the two towers are built and trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(default=64, ge=2, description="Length of both vectors.")
    temperature: float = Field(
        default=0.1, gt=0, description="Divides the cosine in training; tune on recall."
    )
    batch_size: int = Field(
        default=1024, ge=2, description="Rows, and negatives, a step."
    )
    max_epochs: int = Field(default=20, ge=1, description="Passes at most.")
    patience: int = Field(
        default=1,
        ge=0,
        description="Epochs without a better recall on the eval split before stopping.",
    )
    learning_rate: float = Field(default=0.005, gt=0, description="AdamW's step size.")
    weight_decay: float = Field(
        default=0.01, ge=0, description="AdamW's decay of every weight, a step."
    )
    dropout: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="Share of history events and of item units dropped in training.",
    )
    sampling_correction: bool = Field(
        default=True,
        description="Subtract log_q from in-batch logits (Yi et al. 2019).",
    )
    mask_history: bool = Field(
        default=True,
        description="Never use an item of the user's own history as a negative; right "
        "where seen items are not recommended again.",
    )
    frequency_buckets: int = Field(
        default=65536,
        ge=1,
        description="Buckets of one frequency array; several per item.",
    )
    frequency_hashes: int = Field(
        default=1, ge=1, description="Arrays of the estimator; the largest gap counts."
    )
    frequency_alpha: float = Field(
        default=0.01, gt=0, le=1, description="Estimator's learning rate."
    )
    seed: int = Field(
        default=7, ge=0, description="Seeds initial weights and shuffling."
    )

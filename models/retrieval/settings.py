"""Settings of the retrieval model: the `retrieval` section of a config."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class HistoryEncoder(enum.Enum):
    """What the order of a history adds to its weighted mean and its newest item."""

    MEAN = "mean"  # nothing
    ATTENTION = "attention"  # self-attention, read at the newest item
    GRU = "gru"  # the last state of a recurrent network


class Optimizer(enum.Enum):
    """AdamW over whole tables, or over the rows that a batch holds."""

    ADAMW = "adamw"  # cost grows with the vocabulary
    SPARSE_ADAMW = "sparse_adamw"  # cost grows with the batch


class RetrievalSettings(BaseModel):
    """How the two towers are built and trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(default=64, ge=2, description="Length of both vectors.")
    history_encoder: HistoryEncoder = Field(
        default=HistoryEncoder.MEAN,
        description="What the query tower adds to the history's weighted mean and its "
        "newest item: `mean` nothing, `attention` or `gru` what the order tells.",
    )
    attention_blocks: int = Field(
        default=1, ge=1, description="Blocks of the `attention` encoder."
    )
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
    optimizer: Optimizer = Field(
        default=Optimizer.ADAMW,
        description="`adamw`, or `sparse_adamw`, which leaves the rows of a table alone "
        "that a batch does not hold: for large vocabularies.",
    )
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

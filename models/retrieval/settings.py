"""Settings of the retrieval model: the `retrieval` section of a config."""

import enum

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.losses.options import SamplingMeasure


class HistoryEncoder(enum.Enum):
    """What the order of a history adds to its weighted mean and its newest item."""

    MEAN = "mean"  # nothing
    ATTENTION = "attention"  # self-attention, read at the newest item
    GRU = "gru"  # the last state of a recurrent network


class Optimizer(enum.Enum):
    """AdamW over whole tables, or over the rows that a batch holds."""

    ADAMW = "adamw"  # cost grows with the vocabulary
    SPARSE_ADAMW = "sparse_adamw"  # cost grows with the batch


class Replicas(enum.Enum):
    """Which devices of the machine share a batch."""

    NONE = "none"  # one does all of it
    MIRRORED = "mirrored"  # all GPUs, each with a copy of the model; else all CPUs


class RetrievalSettings(BaseModel):
    """How the two towers are built and trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(default=64, ge=2, description="Length of both vectors.")
    history_encoder: HistoryEncoder = Field(
        default=HistoryEncoder.ATTENTION,
        description="What the query tower adds to the history's weighted mean and its "
        "newest item: `mean` nothing, `attention` or `gru` what the order tells.",
    )
    history_content: bool = Field(
        default=True,
        description="Whether a history's item is read with its content, as a candidate "
        "is, or by its id alone.",
    )
    attention_blocks: int = Field(
        default=1, ge=1, description="Blocks of the `attention` encoder."
    )
    temperature: float = Field(
        default=0.1,
        gt=0,
        description="Divides the cosine in training; tune on recall where it is not "
        "learnt.",
    )
    learn_temperature: bool = Field(
        default=True,
        description="Whether the temperature is learnt with the towers, from "
        "`temperature` on.",
    )
    batch_size: int = Field(
        default=1024, ge=2, description="Rows, and negatives, a step."
    )
    accumulation_steps: int = Field(
        default=1,
        ge=1,
        description="Batches whose mean gradient makes one step of the optimizer.",
    )
    replicas: Replicas = Field(
        default=Replicas.NONE,
        description="`mirrored` splits each batch over all GPUs of the machine, or over "
        "its logical CPUs; the negatives stay those of the whole batch.",
    )
    max_epochs: int = Field(default=20, ge=1, description="Passes at most.")
    patience: int = Field(
        default=1,
        ge=0,
        description="Epochs without a better recall on the eval split before stopping.",
    )
    continued_epochs: int = Field(
        default=1,
        ge=1,
        description="Passes over the rows that are new since the release that "
        "`tandem run --span` continues from.",
    )
    learning_rate: float = Field(default=0.005, gt=0, description="AdamW's step size.")
    optimizer: Optimizer = Field(
        default=Optimizer.SPARSE_ADAMW,
        description="`sparse_adamw` leaves the rows of a table alone that a batch does "
        "not hold, so that a step costs the same whatever the vocabulary; `adamw` moves "
        "every row at every step.",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="AdamW's decay of every weight, a step."
    )
    averaged_epochs: float = Field(
        default=0.5,
        ge=0,
        description="Time constant, in epochs, of the moving average that takes the "
        "place of the weights after each epoch; 0 keeps the weights of the last step.",
    )
    dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of history events and of item units dropped in training.",
    )
    sampling_correction: bool = Field(
        default=True,
        description="Subtract log_q from in-batch logits (Yi et al. 2019).",
    )
    sampling_measure: SamplingMeasure = Field(
        default=SamplingMeasure.EXPECTED_COUNT,
        description="What log_q of a negative is the log of: `presence`, the chance that "
        "a batch holds the item, or `expected_count`, how often it does, which goes on "
        "rising where head items are in every batch.",
    )
    refined_correction: bool = Field(
        default=False,
        description="Leave the positive out of the sampled partition "
        "(arXiv 2507.09331); wants `sampling_measure: expected_count`.",
    )
    drawn_negatives: int = Field(
        default=0,
        ge=0,
        description="Negatives a step drawn evenly from the items trained on, beside the "
        "batch's own (mixed negative sampling).",
    )
    hard_negatives: int = Field(
        default=0,
        ge=0,
        description="How many negatives of the highest scores a row keeps; 0 keeps all.",
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

    @model_validator(mode="after")
    def _loss_is_consistent(self) -> "RetrievalSettings":
        if self.refined_correction:
            if not self.sampling_correction:
                raise ValueError(
                    "`refined_correction` is a form of the sampling correction: set "
                    "`sampling_correction: true`, or drop it."
                )
            if self.sampling_measure is not SamplingMeasure.EXPECTED_COUNT:
                raise ValueError(
                    "`refined_correction` adds up what negatives stand for, so they have "
                    "to be counted: set `sampling_measure: expected_count`."
                )
            if self.hard_negatives:
                raise ValueError(
                    "`refined_correction` estimates the sum over all negatives, which "
                    "`hard_negatives` leaves out in part; keep one of the two."
                )
        num_negatives = self.batch_size - 1 + self.drawn_negatives
        if self.hard_negatives >= num_negatives:
            raise ValueError(
                f"`hard_negatives` should be below the {num_negatives} negatives of a "
                "row (batch_size - 1 + drawn_negatives), or 0 to keep them all. "
                f"Received: hard_negatives={self.hard_negatives}"
            )
        return self

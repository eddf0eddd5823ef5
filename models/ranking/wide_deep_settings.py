"""Settings of the Wide & Deep ranker; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator


class WideDeepSettings(BaseModel):
    """The crosses of the wide part, the sizes of the deep one, and how each is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crosses: tuple[tuple[str, ...], ...] = Field(
        default=(("user_id", "item_id"), ("history_item_ids", "item_id")),
        description="Features crossed in the wide part, two or three each: `user_id`, "
        "`item_id`, `history_item_ids` or `<side>_<name>` of a declared one that has "
        "categories. Of lists, each value is crossed.",
    )
    cross_buckets: int = Field(
        default=100_000,
        ge=1,
        description="Weights of a cross; combinations that share one by their hash share "
        "it.",
    )
    wide_learning_rate: float = Field(
        default=0.05, gt=0, description="FTRL's step size, of the wide part."
    )
    wide_l1: float = Field(
        default=1e-5,
        ge=0,
        description="FTRL's L1 penalty: weights that earn less are 0.",
    )
    embedding_dim: int = Field(
        default=32, ge=1, description="Length K of a field's vector in the deep part."
    )
    hidden: tuple[PositiveInt, ...] = Field(
        default=(256, 128, 64),
        min_length=1,
        description="Units of the ReLU layers of the deep part.",
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of hidden units dropped in training.",
    )
    deep_learning_rate: float = Field(
        default=0.05, gt=0, description="Adagrad's step size, of the deep part."
    )

    @field_validator("crosses")
    @classmethod
    def _two_or_three(
        cls, crosses: tuple[tuple[str, ...], ...]
    ) -> tuple[tuple[str, ...], ...]:
        for cross in crosses:
            if not 2 <= len(cross) <= 3 or len(set(cross)) != len(cross):
                raise ValueError(
                    "a cross should name two or three features, each once. "
                    f"Received: {list(cross)}"
                )
        return crosses

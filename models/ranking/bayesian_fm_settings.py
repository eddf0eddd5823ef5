"""Settings of the Bayesian FM; free of TensorFlow, so that a config reads fast."""

from pydantic import BaseModel, ConfigDict, Field


class BayesianFMSettings(BaseModel):
    """The prior of the factorisation machine, and how a batch changes the posterior."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding_dim: int = Field(default=8, ge=1, description="Length K of a value's v.")
    weight_deviation: float = Field(
        default=0.5,
        gt=0,
        description="Standard deviation of a weight w before any row, in units of the "
        "logit.",
    )
    vector_deviation: float = Field(
        default=0.1,
        gt=0,
        description="Standard deviation of a number of v before any row. Two fields "
        "then move the logit by about sqrt(K) times its square.",
    )
    initial_deviation: float = Field(
        default=0.05,
        gt=0,
        description="Spread of the prior means of v: at 0 all pairs would stay at 0.",
    )
    history_items: int = Field(
        default=10,
        ge=0,
        description="Newest items of a history that are read; the cost of a row grows "
        "with them.",
    )
    two_tower_features: bool = Field(
        default=False,
        description="Whether the two towers' vectors of the user and of the item are "
        "fields too. Retrieval is then trained before ranking, not beside it.",
    )
    forgetting: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Share of what is known of a value that is left when a batch that "
        "holds it comes: below 1 for tastes that change.",
    )
    newton_steps: int = Field(
        default=1, ge=1, description="Steps towards a batch's posterior means."
    )
    solver_steps: int = Field(
        default=10, ge=1, description="Passes over a batch for a step, at most."
    )

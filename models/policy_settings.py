"""Settings of the policy; free of TensorFlow, so that a config reads fast."""

import enum

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PolicyName(enum.Enum):
    """The policies a recommender can be exported with."""

    GREEDY = "greedy"  # the best logits in order; every propensity is 1
    EPSILON_GREEDY = "epsilon_greedy"  # the same, but for a place in 1 / epsilon
    SOFTMAX = "softmax"  # drawn without replacement, P proportional to exp(logit / T)
    THOMPSON = "thompson"  # the best in a draw from the posterior, anew at each place
    UCB = "ucb"  # the best upper bounds in order


class Draw(enum.Enum):
    """What Thompson sampling draws."""

    PARAMETERS = "parameters"  # the query's once for all items
    LOGIT = "logit"  # each item's logit, apart from the others


class PolicySettings(BaseModel):
    """How the recommender explores: the `policy` section of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PolicyName = Field(
        default=PolicyName.GREEDY,
        description="`greedy`, or to explore `epsilon_greedy`, `softmax`, or, with a "
        "ranker that knows how unsure it is (`ranking.model: bayesian_fm`), `thompson` or "
        "`ucb`.",
    )
    temperature: float = Field(
        default=0.1, gt=0, description="T of the softmax policy, in units of the logit."
    )
    epsilon: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Chance with which a place of the slate is filled by any candidate, "
        "each as likely, whatever the policy: no propensity of a candidate is then 0.",
    )

    alpha: float = Field(
        default=0.5,
        gt=0,
        description="Factor of the logit's standard deviation: what `thompson` draws "
        "with, and what `ucb` adds.",
    )
    draw: Draw = Field(
        default=Draw.PARAMETERS,
        description="Of `thompson`: `parameters` draws the user's once for all items, "
        "`logit` each item's logit apart.",
    )
    propensity_samples: int = Field(
        default=128,
        ge=2,
        multiple_of=2,
        description="Draws from which a propensity of `thompson` is estimated; its "
        "standard error is served beside it.",
    )

    @property
    def needs_posterior(self) -> bool:
        """Whether the ranker must say how unsure it is."""
        return self.name in (PolicyName.THOMPSON, PolicyName.UCB)

    @property
    def has_errors(self) -> bool:
        """Whether propensities are estimates."""
        return self.name is PolicyName.THOMPSON

    @model_validator(mode="after")
    def _check_epsilon(self) -> "PolicySettings":
        if self.name is PolicyName.EPSILON_GREEDY and self.epsilon == 0:
            raise ValueError(
                "`epsilon` should be > 0 with `name: epsilon_greedy`. Received: 0, "
                "which is `name: greedy`"
            )
        if self.name is PolicyName.GREEDY and self.epsilon > 0:
            raise ValueError(
                "`epsilon` should be 0 with `name: greedy`, which never explores. "
                f"Received: {self.epsilon}; say `name: epsilon_greedy`"
            )
        return self

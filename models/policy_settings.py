"""Settings of the policy; free of TensorFlow, so that a config reads fast."""

import enum

from pydantic import BaseModel, ConfigDict, Field, model_validator


class PolicyName(enum.Enum):
    """The policies a recommender can be exported with."""

    GREEDY = "greedy"  # the best logits in order; every propensity is 1
    EPSILON_GREEDY = "epsilon_greedy"  # the same, but for a place in 1 / epsilon
    SOFTMAX = "softmax"  # drawn without replacement, P proportional to exp(logit / T)


class PolicySettings(BaseModel):
    """How the recommender explores: the `policy` section of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PolicyName = Field(
        default=PolicyName.GREEDY,
        description="`greedy`, or to explore `epsilon_greedy` or `softmax`.",
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

"""Settings of the policy; free of TensorFlow, so that a config reads fast."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class PolicyName(enum.Enum):
    """The policies a recommender can be exported with."""

    GREEDY = "greedy"  # the best logits in order; every propensity is 1
    SOFTMAX = "softmax"  # drawn without replacement, P proportional to exp(logit / T)


class PolicySettings(BaseModel):
    """How the recommender explores: the `policy` section of a config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PolicyName = Field(
        default=PolicyName.GREEDY, description="`greedy`, or `softmax` to explore."
    )
    temperature: float = Field(
        default=0.1, gt=0, description="T of the softmax policy, in units of the logit."
    )

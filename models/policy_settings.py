"""Settings of the policy; free of TensorFlow, so that a config reads fast."""

import enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.features import FeatureCatalog, FeatureKind

_CAPPABLE = (FeatureKind.CATEGORICAL, FeatureKind.MULTI_CATEGORICAL)


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


class DiversitySettings(BaseModel):
    """How much unlike each other the items of a slate are to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relevance: float = Field(
        gt=0,
        le=1,
        description="The lambda of maximal marginal relevance: a place goes by lambda * "
        "logit - (1 - lambda) * the largest cosine with an item above, of the item "
        "tower's vectors. 1 is the logit alone.",
    )


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

    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={},
        description="Item feature, `categorical` or `multi_categorical`, to the most "
        "items of a slate that may share one of its values, such as `{genre: 3}`. An "
        "item without a value is not capped.",
    )
    diversity: DiversitySettings | None = Field(
        default=None,
        description="Items that resemble one above are moved down; null: none is.",
    )

    @property
    def has_rules(self) -> bool:
        """Whether what may be shown at a place depends on the items above."""
        return bool(self.caps) or self.diversity is not None

    @property
    def needs_posterior(self) -> bool:
        """Whether the ranker must say how unsure it is."""
        return self.name in (PolicyName.THOMPSON, PolicyName.UCB)

    @property
    def has_errors(self) -> bool:
        """Whether propensities are estimates."""
        return self.name is PolicyName.THOMPSON

    def problems(self, catalog: FeatureCatalog) -> list[str]:
        """Returns what of the caps the declared features do not allow."""
        kinds = {feature.name: feature.kind for feature in catalog.item}
        cappable = [name for name, kind in kinds.items() if kind in _CAPPABLE]
        return [
            f"`policy.caps.{name}` should name an item feature of the kind "
            f"`categorical` or `multi_categorical`, of which there are {cappable}. "
            f"Received: {'a ' + kinds[name].value if name in kinds else 'no feature'}"
            for name in self.caps
            if name not in cappable
        ]

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

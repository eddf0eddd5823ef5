"""Which of the ranked candidates to show, in which order, and with what propensity.

A policy turns logits into a slate without repetition. The propensity of a shown item is
the probability, under the policy, of showing it at its position given the items above
it; the product over a slate is the slate's probability.
"""

from models.policy.noise import gumbel_noise
from models.policy.rules import NO_VALUE, SlateRules, within_caps
from models.policy.slate import Slate, select_slate, slate_propensities

__all__ = [
    "NO_VALUE",
    "Slate",
    "SlateRules",
    "gumbel_noise",
    "select_slate",
    "slate_propensities",
    "within_caps",
]

"""Which of the ranked candidates to show, in which order, and with what propensity.

A policy turns logits into a slate without repetition. The propensity of a shown item is
the probability, under the policy, of showing it at its position given the items above
it; the product over a slate is the slate's probability.
"""

from models.policy.noise import gumbel_noise
from models.policy.slate import Slate, select_slate, slate_propensities

__all__ = ["Slate", "gumbel_noise", "select_slate", "slate_propensities"]

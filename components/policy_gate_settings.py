"""Settings of the policy gate; free of NumPy, so that a config reads fast."""

import enum

from pydantic import BaseModel, ConfigDict, Field

from components.ingestion.settings import DataSettings
from models.bandit.off_policy_settings import OffPolicySettings

METRICS = ("score", "ctr", "xctr", "reward")
# Of `mrdr` the fast path is taken: the whole objective needs the chances of every item.
ESTIMATORS = ("ips", "snips", "dr", "sndr", "switch_dr", "dros", "mrdr")


class Fallback(enum.Enum):
    """What a gate answers where the log cannot tell."""

    ALLOW = "allow"
    REFUSE = "refuse"


class Places(enum.Enum):
    """What a logged propensity is the chance of."""

    INDEPENDENT = "independent"  # the item at its place, whatever is above it
    CASCADE = "cascade"  # the item at its place, given the items above it
    WHOLE = "whole"  # the same, where the reward of a place depends on the whole slate


class PolicyGateSettings(BaseModel):
    """When a policy is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str = Field(
        default="score",
        pattern=f"^({'|'.join(METRICS)})$",
        description="What is to grow: `ctr`, rows with a label above the neutral one; "
        "`xctr`, below it, which is to shrink; `score`, ctr less `mute_cost` xctr; "
        "`reward`, the mean reward.",
    )
    mute_cost: float = Field(
        default=1.0, ge=0, description="How many clicks a mute costs in `score`."
    )
    estimator: str = Field(
        default="dr",
        pattern=f"^({'|'.join(ESTIMATORS)})$",
        description=f"Whose value and interval are judged: {', '.join(ESTIMATORS)}.",
    )
    margin: float = Field(
        default=0.0,
        ge=-1,
        description="How far the low end of the new policy's interval must lie above the "
        "incumbent's estimate, as a share of it. Below 0 it may be that much worse. The "
        "incumbent is the last release, and before the first one what the log earned.",
    )
    without_propensities: Fallback = Field(
        default=Fallback.ALLOW,
        description="`allow` or `refuse` where no row of the test split has a propensity: "
        "nothing can be judged then.",
    )
    with_weak_log: Fallback = Field(
        default=Fallback.REFUSE,
        description="`allow` or `refuse` where the log has propensities, but its weights "
        "mean nothing: see `evaluation`.",
    )
    places: Places = Field(
        default=Places.CASCADE,
        description="What a logged propensity is the chance of: `cascade`, the item at "
        "its place given those above, as Tandem serves and logs it; `whole`, the same "
        "where a place's reward depends on all of the slate; `independent`, the item at "
        "its place whatever is above.",
    )
    num_draws: int = Field(
        default=8,
        ge=1,
        description="Slates that each policy draws for a request, which its expected "
        "reward by a model, and with independent places its propensities, are means of.",
    )
    evaluation: OffPolicySettings = Field(
        default=OffPolicySettings(),
        description="Intervals, parameters, and when a log is too weak.",
    )


def neutral_label(settings: DataSettings) -> float:
    """Returns the label of a showing without an answer; 0 where a log has no showings."""
    answered = {kind.answers for kind in settings.event_types.values() if kind.answers}
    labels = [settings.event_types[name].label for name in sorted(answered)]
    known = [label for label in labels if label is not None]
    return known[0] if known else 0.0

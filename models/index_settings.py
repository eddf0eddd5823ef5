"""Settings of the item index: the `index` section of a config; free of TensorFlow."""

import enum

from pydantic import BaseModel, ConfigDict, Field


class IndexKind(enum.Enum):
    """Which index answers nearest-item searches."""

    AUTO = "auto"  # by the size of the catalogue, see `IndexSettings.exact_below`
    EXACT = "exact"  # a product with every item; stock ops only
    SCANN = "scann"  # ScaNN's quantised search, its own ops


class IndexSettings(BaseModel):
    """How the item index is built and searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: IndexKind = IndexKind.AUTO
    exact_below: int = Field(
        default=20_000, ge=0, description="AUTO searches smaller catalogues exactly."
    )
    tree_above: int = Field(
        default=100_000,
        ge=0,
        description="ScaNN partitions larger catalogues; it scans smaller ones whole.",
    )
    recall_target: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Share of the exact results that a tuned index finds, of 100 or more.",
    )
    num_leaves: int = Field(
        default=0, ge=0, description="Partitions; 0 takes the root of the items."
    )
    leaves_to_search: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="Share of the partitions a query looks at; tuned in a run.",
    )
    dimensions_per_block: int = Field(
        default=2, ge=1, description="Dimensions a 4-bit code stands for."
    )
    anisotropic_threshold: float = Field(
        default=0.2,
        ge=0,
        lt=1,
        description="ScaNN's T: how much more errors along a vector weigh than across.",
    )
    min_reordered: int = Field(
        default=200,
        ge=1,
        description="Candidates scored exactly, at least; tuned in a run.",
    )
    reordered_per_result: float = Field(
        default=4.0,
        ge=1,
        description="Candidates scored exactly for each result asked; tuned in a run.",
    )
    max_segment_share: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of new and gone items above which an index is built anew.",
    )

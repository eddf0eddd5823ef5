"""What a service declares about its log: where it lies, what its columns mean."""

import enum

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Format(enum.Enum):
    """How the records of a file are written; `.gz` files are decompressed as well."""

    AUTO = "auto"  # by the file's ending
    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TFRECORD = "tfrecord"


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Settings):
    """One table of the service."""

    path: str = Field(
        min_length=1,
        description="Path or glob of the files, local or on any Beam file system.",
    )
    format: Format = Field(
        default=Format.AUTO,
        description="auto | jsonl | csv | parquet | tfrecord (records of JSON or "
        "tf.Example); auto goes by the file's ending.",
    )
    columns: dict[str, str] = Field(
        default={},
        description="Canonical column or feature name -> the service's own name, for "
        "those that differ.",
    )
    delimiter: str = Field(
        default=",", min_length=1, max_length=1, description="Between CSV fields."
    )
    list_separator: str = Field(
        default="|",
        min_length=1,
        description="Between the values of a multi-valued feature written as one string.",
    )


class LabelFromValue(_Settings):
    """Makes the label from the event's `value`."""

    at_least: float = Field(
        allow_inf_nan=False,
        description="The label is 1 where `value` is at least this, else 0.",
    )


class EventType(_Settings):
    """What an event of one type means for learning."""

    reward: float = Field(
        ge=0,
        allow_inf_nan=False,
        description="r_i, the weight in the retrieval loss and what policies earn.",
    )
    positive: bool = Field(
        default=True,
        description="Whether it is an interaction: it enters histories, and retrieval "
        "learns from it.",
    )
    label: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="A constant label: the ranker learns from each such event.",
    )
    label_from_value: LabelFromValue | None = Field(
        default=None, description="A label made from the event's `value`."
    )

    @model_validator(mode="after")
    def _one_label_rule(self) -> "EventType":
        if self.label is not None and self.label_from_value is not None:
            raise ValueError(
                "`label` and `label_from_value` exclude each other; keep one."
            )
        return self

    @property
    def is_labelled(self) -> bool:
        """Whether the ranker learns from events of this type."""
        return self.label is not None or self.label_from_value is not None


class SplitSettings(_Settings):
    """The global time split."""

    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the events, the latest ones."
    )
    eval_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the rest, its latest ones."
    )


class DataSettings(_Settings):
    """The service's log and how to read it."""

    events: Source = Field(description="The event log.")
    items: Source | None = Field(
        default=None,
        description="The items table; without it, the items seen in the log.",
    )
    users: Source | None = Field(default=None, description="The users table.")
    event_types: dict[str, EventType] = Field(
        min_length=1,
        description="Each type of event in the log; an event of another type is a dead "
        "letter.",
    )
    split: SplitSettings = Field(
        default=SplitSettings(), description="The global time split."
    )
    shards: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Files per split, and the parts the log is worked on in; unset "
        "goes by the size of the log.",
    )

    @field_validator("event_types")
    @classmethod
    def _some_type_is_positive(
        cls, event_types: dict[str, EventType]
    ) -> dict[str, EventType]:
        if not any(event_type.positive for event_type in event_types.values()):
            raise ValueError(
                "at least one event type should be `positive: true`; without one there "
                "is nothing for retrieval to learn."
            )
        return event_types


class ValidationSettings(_Settings):
    """When the data gate refuses a log."""

    max_dead_letter_share: float = Field(
        default=0.05, ge=0, le=1, description="Of the records read, per source."
    )
    max_bad_propensities: int = Field(
        default=0,
        ge=0,
        description="Events refused for a propensity outside (0, 1]. One is enough to "
        "doubt all the others, which off-policy evaluation divides by.",
    )
    max_unknown_item_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Of the accepted events, those on items that the items table lacks.",
    )
    min_events: int = Field(default=1, ge=0, description="Accepted events.")
    min_users: int = Field(default=2, ge=0, description="Users with an event.")
    min_items: int = Field(default=2, ge=0, description="Items of the catalogue.")
    max_anomalies: int = Field(
        default=0,
        ge=0,
        description="TFDV anomalies over all splits, by the curated schema.",
    )

"""What a service declares about its log: where it lies, what its columns mean."""

import datetime
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
        description="Path or glob of the files, local or on any Beam file system. Dated "
        "spans are written `{YYYY-MM-DD}` (or `{YYYY}`, `{MM}`, `{DD}`), numbered ones "
        "`{SPAN}`; `{VERSION}` takes the highest version of each span.",
    )
    replayed: str | None = Field(
        default=None,
        min_length=1,
        description="Path or glob of mended dead letters, JSON Lines under the service's "
        "own names; read beside `path`. `tandem run` fills it from the root folder.",
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
    answers: str | None = Field(
        default=None,
        description="The event type that this one responds to (a click answers an "
        "impression). A response gives its label and reward to the impression of the "
        "same user, request and item; it is no labelled row of its own.",
    )
    sampled_negatives: int = Field(
        default=0,
        ge=0,
        le=100,
        description="For a log without negatives: labelled rows with label 0 and reward "
        "0 added to each labelled row, their items drawn from the catalogue.",
    )

    @model_validator(mode="after")
    def _one_label_rule(self) -> "EventType":
        if self.label is not None and self.label_from_value is not None:
            raise ValueError(
                "`label` and `label_from_value` exclude each other; keep one."
            )
        if self.answers is not None and not self.has_label:
            raise ValueError(
                "an event type with `answers` labels the impression it answers: give it "
                "`label` or `label_from_value`."
            )
        if self.sampled_negatives and not self.is_labelled:
            raise ValueError(
                "`sampled_negatives` are drawn beside labelled rows: give the event type "
                "`label` or `label_from_value`, and no `answers`."
            )
        return self

    @property
    def has_label(self) -> bool:
        """Whether an event of this type says what a user thought of an item."""
        return self.label is not None or self.label_from_value is not None

    @property
    def is_labelled(self) -> bool:
        """Whether the ranker learns from events of this type, as rows of their own."""
        return self.has_label and self.answers is None


class SplitSettings(_Settings):
    """The global time split."""

    test_fraction: float = Field(
        default=0.2, gt=0, lt=1, description="Share of the events, the latest ones."
    )
    eval_fraction: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the rest, its latest ones."
    )
    newest_span: bool = Field(
        default=False,
        description="Test on the newest span that is read, whatever its share; "
        "`test_fraction` then says nothing. `tandem run --span` sets it.",
    )


class SpanSettings(_Settings):
    """Which spans of a log are read, where its path names spans."""

    last: int | None = Field(
        default=None, ge=1, description="The newest so many spans; unset reads all."
    )
    until: str | None = Field(
        default=None,
        description="The newest span read, such as 2026-11-21 or 17; unset is the newest "
        "there is.",
    )
    allow_gaps: bool = Field(
        default=False,
        description="Whether a span may be missing between the first and the last.",
    )
    max_late_days: int = Field(
        default=1,
        ge=0,
        description="An event further before the day of its span is a dead letter.",
    )
    max_early_minutes: int = Field(
        default=10,
        ge=0,
        description="An event further past the end of its span's day (a clock that runs "
        "fast) is a dead letter.",
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
    spans: SpanSettings = Field(
        default=SpanSettings(), description="Which spans are read, of a log in spans."
    )
    closed_at: datetime.datetime | None = Field(
        default=None,
        description="The moment of the export, ISO 8601: an event at or after it is a "
        "dead letter, and response windows are closed as of it. Unset is the end of the "
        "newest dated span, else the last event.",
    )
    response_window_minutes: float = Field(
        default=10,
        gt=0,
        le=60 * 24 * 30,
        description="How long after an impression a response counts; the impression's "
        "row is made when it is over.",
    )
    session_gap_minutes: float | None = Field(
        default=None,
        gt=0,
        description="A session ends where its user is silent for longer; set, each row "
        "says when its session began.",
    )
    max_events_per_user_per_day: int | None = Field(
        default=None,
        ge=1,
        description="Of a user's events of one UTC day, those after the first so many "
        "give no rows and enter no history: a runaway account.",
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

    @field_validator("event_types")
    @classmethod
    def _answers_name_impressions(
        cls, event_types: dict[str, EventType]
    ) -> dict[str, EventType]:
        for name, event_type in event_types.items():
            answered = event_type.answers
            if answered is None:
                continue
            if answered not in event_types or not event_types[answered].is_labelled:
                raise ValueError(
                    f"`{name}` answers `{answered}`, which should be a declared event "
                    "type with a label, and no response itself."
                )
        return event_types

    @field_validator("closed_at")
    @classmethod
    def _in_utc(cls, moment: datetime.datetime | None) -> datetime.datetime | None:
        if moment is None or moment.tzinfo is not None:
            return moment
        return moment.replace(tzinfo=datetime.UTC)

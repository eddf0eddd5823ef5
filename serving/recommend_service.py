"""From a user id to a logged slate: profile, one call of the model, decision.

The HTTP API's two requests. What was shown is in the event store before it is answered, so
that no slate is shown whose propensities are not known later.
"""

import dataclasses
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

import grpc
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from tensorflow_serving.apis import model_pb2, predict_pb2

from schemas.decisions import Decision, ShownItem, hash_of_request
from schemas.events import MAX_ID_BYTES, MAX_TIMESTAMP, MIN_TIMESTAMP
from serving import prediction_service, tensor_codec
from serving.batching import Arrays
from serving.calls import Calls
from serving.client import (
    ARGUMENTS,
    RECOMMEND_AT_SIGNATURE,
    RECOMMEND_SIGNATURE,
    feature_array,
    recommend_arguments,
)
from serving.errors import RequestError, StoreUnavailableError, invalid_argument
from serving.profiles import EventLog, Past, ProfileStore, past_of
from serving.request_log import RequestLog
from serving.saved_model import SavedModel

MAX_ITEMS = 1000  # of a slate, and of events in one request
MAX_FIELDS = 100  # of a context, and of an event beyond those that are declared
_MODEL = "recommender"
_CONTEXT = "context_"

Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES)]


class RecommendRequest(BaseModel):
    """Whom to recommend to, and how many items."""

    model_config = ConfigDict(extra="forbid")

    user_id: Id
    k: int = Field(default=10, ge=1, le=MAX_ITEMS)
    context: dict[str, JsonValue] = Field(
        default={},
        max_length=MAX_FIELDS,
        description="Context features by their names, such as `hour`.",
    )
    exclude_item_ids: list[Id] = Field(default=[], max_length=10_000)
    seed: int | None = Field(
        default=None, ge=0, lt=2**63, description="Repeats an answer; else a new draw."
    )


class RecommendedItem(BaseModel):
    """One item of a slate, at its position."""

    item_id: str
    score: float
    propensity: float


class RecommendResponse(BaseModel):
    """A slate. Send `request_id` with the events that answer it."""

    request_id: str
    user_id: str
    is_known: bool
    release: int
    seed: int
    items: list[RecommendedItem]


class IncomingEvent(BaseModel):
    """Something that a user did. Further fields are context, and are kept."""

    model_config = ConfigDict(extra="allow")

    event_id: Id = Field(description="Makes sending it again harmless.")
    user_id: Id
    item_id: Id
    event_type: str
    timestamp: int | None = Field(
        default=None,
        ge=MIN_TIMESTAMP,
        le=MAX_TIMESTAMP,
        description="ms since the epoch, UTC; now, if left out.",
    )
    request_id: Id | None = Field(
        default=None, description="Of the recommendation that it answers."
    )
    value: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _has_few_further_fields(self) -> Self:
        further = len(self.model_extra or {})
        if further > MAX_FIELDS:
            raise ValueError(
                f"at most {MAX_FIELDS} further fields are kept. Received: {further}"
            )
        return self


class EventsRequest(BaseModel):
    """Events, which are taken all or none."""

    model_config = ConfigDict(extra="forbid")

    events: list[IncomingEvent] = Field(min_length=1, max_length=MAX_ITEMS)


class EventsResponse(BaseModel):
    """How many are new, and how many were there already."""

    accepted: int
    duplicates: int


@dataclasses.dataclass(frozen=True)
class ServiceSettings:
    """What the service knows of its log.

    Attributes:
        event_types: the declared types, by whether they enter histories.
        history_length: the most items a history holds.
        policy: what chose the slates, as text for the log.
    """

    event_types: Mapping[str, bool]
    history_length: int
    policy: str

    @property
    def positive_types(self) -> list[str]:
        """Returns the types that enter histories."""
        return [name for name, is_positive in self.event_types.items() if is_positive]


@dataclasses.dataclass(frozen=True)
class Preview:
    """What would be shown, and what it came from.

    Attributes:
        at: ms, the moment of the request.
        is_known: whether anything is known of the user.
        past: as the model was told.
        slate: the items, the first position first.
        release: version of the model.
        seed: of the policy's draw.
        request_hash: digest of what the model was asked.
        timings: ms of each stage.
    """

    at: int
    is_known: bool
    past: Past
    slate: tuple[ShownItem, ...]
    release: int
    seed: int
    request_hash: str
    timings: dict[str, float]


class RecommendService:
    """Answers the HTTP API's requests; lives on the event loop.

    Args:
        calls: reach the models.
        profiles: of the users.
        events: take in what is shown and done.
        settings: of the log.
        clock: returns ms since the epoch.
        request_log: takes a sample of what the model is asked; None logs nothing.
    """

    def __init__(
        self,
        calls: Calls,
        profiles: ProfileStore,
        events: EventLog,
        settings: ServiceSettings,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        request_log: RequestLog | None = None,
    ):
        self.settings = settings
        self._calls = calls
        self._profiles = profiles
        self._events = events
        self._clock = clock
        self._request_log = request_log

    async def recommend(self, request: RecommendRequest) -> RecommendResponse:
        """Returns a slate, after it has been logged.

        Raises:
            RequestError: INVALID_ARGUMENT for context that the model does not take,
                UNAVAILABLE where no model or profile is served.
        """
        answer = await self.preview(request)
        decision = Decision(
            request_id=uuid.uuid4().hex,
            timestamp=answer.at,
            user_id=request.user_id,
            slate=answer.slate,
            policy=self.settings.policy,
            release=answer.release,
            seed=answer.seed,
            request_hash=answer.request_hash,
            context=request.context,
        )
        await self._calls.off_loop(lambda: self._events.append(decision.events()))
        return RecommendResponse(
            request_id=decision.request_id,
            user_id=request.user_id,
            is_known=answer.is_known,
            release=answer.release,
            seed=answer.seed,
            items=[RecommendedItem(**item.model_dump()) for item in answer.slate],
        )

    async def preview(self, request: RecommendRequest) -> Preview:
        """Returns what `recommend` would show now, and logs nothing: for who looks on.

        Raises:
            RequestError: as of `recommend`.
        """
        at, begin = self._clock(), time.perf_counter()
        profile, past = await self._calls.off_loop(
            lambda: self._looked_up(request.user_id, at)
        )
        looked_up = time.perf_counter()
        seed = secrets.randbits(63) if request.seed is None else request.seed
        features = dict(profile.features)
        features |= {f"{_CONTEXT}{k}": value for k, value in request.context.items()}
        excluded = [*past.seen, *request.exclude_item_ids]
        arguments = recommend_arguments(
            request.user_id, past.history, excluded, request.k, seed, at
        )
        slate, release = await self._shown(arguments, features, request.context)
        return Preview(
            at=at,
            is_known=profile.is_known or bool(past.history),
            past=past,
            slate=slate,
            release=release,
            seed=seed,
            request_hash=hash_of_request(
                request.user_id, past.history, features, excluded, request.k
            ),
            timings={
                "profile": 1e3 * (looked_up - begin),
                "model": 1e3 * (time.perf_counter() - looked_up),
            },
        )

    async def take_events(self, request: EventsRequest) -> EventsResponse:
        """Writes events; once this returns they are on disk, and in their users' past.

        Raises:
            RequestError: INVALID_ARGUMENT for an undeclared type; nothing is written.
        """
        known = self.settings.event_types
        for place, event in enumerate(request.events):
            if event.event_type not in known:
                raise invalid_argument(
                    f"events[{place}].event_type should be one of {sorted(known)}. "
                    f"Received: {event.event_type}"
                )
        now = self._clock()
        records = [
            {"timestamp": now, **event.model_dump(exclude_none=True)}
            for event in request.events
        ]
        new = await self._calls.off_loop(lambda: self._events.append(records))
        return EventsResponse(accepted=new, duplicates=len(records) - new)

    def _looked_up(self, user_id: str, at: int) -> tuple[Any, Past]:
        settings = self.settings
        try:
            profile, snapshot = self._profiles.read(user_id)
            past = past_of(
                profile,
                snapshot,
                self._events,
                settings.positive_types,
                at,
                settings.history_length,
            )
        except (LookupError, StoreUnavailableError) as error:
            raise RequestError(grpc.StatusCode.UNAVAILABLE, str(error)) from error
        return profile, past

    async def _shown(
        self,
        arguments: Arrays,
        features: Mapping[str, object],
        context: Mapping[str, JsonValue],
    ) -> tuple[tuple[ShownItem, ...], int]:
        """Returns the slate that the model answers with, and its release."""
        spec = model_pb2.ModelSpec(name=_MODEL, signature_name=RECOMMEND_SIGNATURE)
        inputs = dict(arguments)

        def read(model: SavedModel) -> prediction_service.Run:
            if RECOMMEND_AT_SIGNATURE in model.signatures:  # earlier releases have none
                spec.signature_name = RECOMMEND_AT_SIGNATURE
            name, signature = prediction_service.named_signature(model, spec)
            if "now" not in signature.inputs:
                inputs.pop("now", None)
            # Features that a release no longer reads stay behind; context is asked for
            # now, so what it does not read is a mistake.
            unknown = [k for k in context if f"{_CONTEXT}{k}" not in signature.inputs]
            if unknown:
                taken = [k for k in signature.inputs if k.startswith(_CONTEXT)]
                names = sorted(k.removeprefix(_CONTEXT) for k in taken)
                raise invalid_argument(
                    f"context should have names among {names}. Received: {unknown}"
                )
            for key in set(signature.inputs) - set(ARGUMENTS):
                try:
                    inputs[key] = feature_array(
                        key, features.get(key), signature.inputs[key]
                    )
                except (ValueError, TypeError) as error:
                    raise invalid_argument(f"{key}: {error}") from error
            return prediction_service.Run(name, inputs, [])

        def write(version: int, outputs: Arrays) -> tuple[tuple[ShownItem, ...], int]:
            if self._request_log is not None:
                of_version = model_pb2.ModelSpec()
                of_version.CopyFrom(spec)
                of_version.version.value = version
                self._request_log.offer_made(
                    of_version, lambda: _messages(of_version, inputs, outputs)
                )
            columns = (outputs[n][0] for n in ("item_ids", "scores", "propensities"))
            return tuple(
                ShownItem(
                    item_id=item.decode(),
                    score=float(score),
                    propensity=float(propensity),
                )
                for item, score, propensity in zip(*columns, strict=True)
                if item
            ), version

        return await self._calls.predict("HTTP", spec, read, write)


def _messages(
    spec: model_pb2.ModelSpec, inputs: Arrays, outputs: Arrays
) -> tuple[predict_pb2.PredictRequest, predict_pb2.PredictResponse]:
    """Returns a call as it would have gone over the wire."""
    request = predict_pb2.PredictRequest(model_spec=spec)
    response = predict_pb2.PredictResponse(model_spec=spec)
    for message, arrays in ((request.inputs, inputs), (response.outputs, outputs)):
        for name, array in arrays.items():
            message[name].CopyFrom(tensor_codec.encode(array))
    return request, response

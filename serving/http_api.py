"""The HTTP API in front of the models: recommend to a user, take in what users do.

`GET /openapi.json` describes it, `GET /docs` shows that to a person, and `GET /` shows what
would be recommended to whom.
"""

import dataclasses
import html
import json
import time
from collections.abc import Awaitable, Callable

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from serving.errors import RequestError
from serving.page.page import NamedItem, PageFacts, render
from serving.recommend_service import (
    EventsRequest,
    EventsResponse,
    RecommendRequest,
    RecommendResponse,
    RecommendService,
)
from serving.release_tables import ReleaseTables
from serving.rest_transport import HTTP_STATUS, read_body

_USERS_SHOWN = 20

_CALLS: dict[str, tuple[str, type[BaseModel], type[BaseModel]]] = {
    "/v1/recommend": (
        "Recommends items to a user.",
        RecommendRequest,
        RecommendResponse,
    ),
    "/v1/events": ("Takes in what users did.", EventsRequest, EventsResponse),
}


def http_application(
    service: RecommendService, tables: Callable[[], ReleaseTables], max_body_mib: int
) -> Starlette:
    """Returns the application.

    Args:
        service: answers.
        tables: returns those of the newest release, for names to show.
        max_body_mib: larger bodies are refused by 413, unread.
    """

    def call(
        kind: type[BaseModel], answer: Callable[[BaseModel], Awaitable[BaseModel]]
    ):
        async def respond(request: Request) -> Response:
            body = await read_body(request, max_body_mib << 20)
            asked = kind.model_validate_json(body)
            return JSONResponse((await answer(asked)).model_dump())

        return respond

    answers = {"/v1/recommend": service.recommend, "/v1/events": service.take_events}
    routes = [
        Route(path, call(kind, answers[path]), methods=["POST"])
        for path, (_, kind, _) in _CALLS.items()
    ]
    routes += [
        Route("/", _Page(service, tables).show, methods=["GET"]),
        Route("/healthz", _health, methods=["GET"]),
        Route("/openapi.json", _openapi, methods=["GET"]),
        Route("/docs", _docs, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        exception_handlers={
            ValidationError: _malformed,
            RequestError: _refused,
            HTTPException: _no_such_call,
        },
    )


class _Page:
    """The page for a person; what it shows is not logged as shown."""

    def __init__(self, service: RecommendService, tables: Callable[[], ReleaseTables]):
        self._service = service
        self._tables = tables

    async def show(self, request: Request) -> Response:
        tables = await run_in_threadpool(self._tables)
        users = await run_in_threadpool(tables.some_user_ids, _USERS_SHOWN)
        policy = self._service.settings.policy
        facts = PageFacts(tables.version, users, policy)
        given = {key: value for key, value in request.query_params.items() if value}
        if "user_id" not in given:
            return HTMLResponse(render(facts))
        try:
            asked = RecommendRequest.model_validate(given)
            seen = await self._service.preview(asked)
        except ValidationError as error:
            return HTMLResponse(
                render(dataclasses.replace(facts, error=_explained(error))), 422
            )
        except RequestError as error:
            status = HTTP_STATUS.get(error.code, 500)
            failed = dataclasses.replace(facts, error=error.message)
            return HTMLResponse(render(failed), status)
        items = [item.item_id for item in seen.slate]
        begin = time.perf_counter()
        names = await run_in_threadpool(tables.names, [*items, *seen.past.history])
        named_ms = 1e3 * (time.perf_counter() - begin)
        facts = dataclasses.replace(
            facts,
            release=seen.release,
            user_id=asked.user_id,
            k=asked.k,
            seed=asked.seed,
            is_known=seen.is_known,
            history=[names.get(item, item) for item in reversed(seen.past.history)],
            slate=[
                NamedItem(name=names.get(item.item_id, ""), **item.model_dump())
                for item in seen.slate
            ],
            timings={**seen.timings, "titles": named_ms},
        )
        return HTMLResponse(render(facts))


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi())


async def _docs(request: Request) -> Response:
    sections = []
    for path, (purpose, asked, answered) in _CALLS.items():
        schemas = "".join(
            f"<h3>{name}</h3><pre>{html.escape(json.dumps(kind.model_json_schema(), indent=2))}</pre>"
            for name, kind in (("Request", asked), ("Response", answered))
        )
        sections.append(f"<h2>POST {path}</h2><p>{purpose}</p>{schemas}")
    return HTMLResponse(
        '<!doctype html><html lang="en"><title>Tandem HTTP API</title>'
        f"<h1>Tandem HTTP API</h1>{''.join(sections)}"
        '<p><a href="/openapi.json">openapi.json</a></p></html>'
    )


def openapi() -> dict:
    """Returns the API's description, OpenAPI 3.1."""
    place = "#/components/schemas/{model}"
    kinds = [kind for _, *pair in _CALLS.values() for kind in pair]
    _, definitions = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in kinds], ref_template=place
    )

    def content(kind: type[BaseModel]) -> dict:
        ref = {"$ref": place.format(model=kind.__name__)}
        return {"content": {"application/json": {"schema": ref}}}

    failures = {
        "400": {"description": "The request asks for what there is not."},
        "422": {"description": "The request is not of the declared form."},
        "503": {"description": "No model or profile is served yet, or too much waits."},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tandem", "version": "1"},
        "paths": {
            path: {
                "post": {
                    "summary": purpose,
                    "requestBody": {"required": True, **content(asked)},
                    "responses": {
                        "200": {"description": "Done.", **content(answered)},
                        **failures,
                    },
                }
            }
            for path, (purpose, asked, answered) in _CALLS.items()
        },
        "components": {"schemas": definitions.get("$defs", {})},
    }


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    return JSONResponse({"error": _explained(error)}, 422)


def _explained(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, found['loc'])) or 'body'}: {found['msg']}"
        for found in error.errors(include_url=False)
    )


async def _no_such_call(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return JSONResponse({"error": error.message}, HTTP_STATUS.get(error.code, 500))

"""The edge: one route table, and one place where exceptions become answers. Nothing about responses is decided here."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager, suppress
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

from antiphon.engine import Engine
from antiphon.engine.room import take_from
from antiphon.http.auth import authenticate
from antiphon.http.body import BodyBudget, BodyShare
from antiphon.http.cors import allow_origins
from antiphon.http.exchange import GONE, ClientDisconnected, Exchange
from antiphon.http.handlers import (
    chat_completions,
    contexts,
    conversations,
    embeddings,
    files,
    metrics,
    models,
    purge,
    responses,
    usage,
    vector_stores,
)
from antiphon.http.idempotency import IdempotencyCache
from antiphon.http.monitor import ConnectionMonitor
from antiphon.http.openapi import describe
from antiphon.http.route import Route
from antiphon.http.websocket import lanes
from antiphon.http.websocket.socket import METHOD as WEBSOCKET
from antiphon.http.websocket.socket import WebSocketExchange
from antiphon.run import to_api_error
from antiphon.store import Purge, Purged
from antiphon.telemetry import logs
from antiphon.wire.chat import ChatCompletion, ChatRequest
from antiphon.wire.contexts import CompactedResponse, CompactRequest, CountRequest, InputTokens
from antiphon.wire.conversation import (
    ChangedConversation,
    ConversationDeleted,
    ConversationList,
    ConversationObject,
    NewConversation,
    NewItems,
)
from antiphon.wire.embeddings import EmbeddingList, EmbeddingRequest
from antiphon.wire.errors import ApiError, MethodNotAllowed, NotFound
from antiphon.wire.files import (
    CompletedUpload,
    FileDeleted,
    FileForm,
    FileList,
    FileListQuery,
    FileObject,
    NewUpload,
    UploadObject,
    UploadPartObject,
)
from antiphon.wire.lists import Deleted, Health, ItemList, Model, ModelList, ResponseList
from antiphon.wire.queries import ListQuery, RetrieveQuery
from antiphon.wire.request import CreateRequest
from antiphon.wire.response import Response
from antiphon.wire.vector_stores import (
    ChangedStoreFile,
    ChangedVectorStore,
    ContentPage,
    FileBatchObject,
    NewFileBatch,
    NewStoreFile,
    NewVectorStore,
    SearchPage,
    SearchRequest,
    StoreFileDeleted,
    StoreFileList,
    StoreFileObject,
    StoreListQuery,
    VectorStoreDeleted,
    VectorStoreList,
    VectorStoreObject,
)

access = logging.getLogger("antiphon.access")

PAGE = ("after", "limit", "order", "include")
RETRIEVE = tuple(RetrieveQuery.__struct_fields__)
LIST = tuple(ListQuery.__struct_fields__)
FILE_LIST = tuple(FileListQuery.__struct_fields__)
STORE_LIST = tuple(StoreListQuery.__struct_fields__)
_CONVERSATION = "/v1/conversations/{conversation_id}"
_STORE = "/v1/vector_stores/{vector_store_id}"
_STORE_FILE = f"{_STORE}/files/{{file_id}}"
_BATCH = f"{_STORE}/file_batches/{{batch_id}}"


async def document(exchange: Exchange) -> None:
    """``GET /openapi.json``."""
    await exchange.reply(describe(ROUTES))


ROUTES = (
    Route("POST", "/v1/responses", responses.create, Response, body=CreateRequest, once=True),
    Route(WEBSOCKET, "/v1/responses", lanes.converse, dict),
    Route("GET", "/v1/responses", responses.list_responses, ResponseList, LIST),
    Route("POST", "/v1/responses/input_tokens", contexts.count_input_tokens, InputTokens, body=CountRequest),
    Route("POST", "/v1/responses/compact", contexts.compact, CompactedResponse, body=CompactRequest, once=True),
    Route("GET", "/v1/responses/{response_id}", responses.retrieve, Response, RETRIEVE),
    Route("POST", "/v1/responses/{response_id}/cancel", responses.cancel, Response),
    Route("DELETE", "/v1/responses/{response_id}", responses.delete, Deleted, forgets="response_id"),
    Route("GET", "/v1/responses/{response_id}/input_items", responses.input_items, ItemList, PAGE),
    Route("POST", "/v1/chat/completions", chat_completions.create, ChatCompletion, body=ChatRequest, once=True),
    Route("POST", "/v1/conversations", conversations.create_conversation, ConversationObject, body=NewConversation),
    Route("GET", "/v1/conversations", conversations.list_conversations, ConversationList, LIST),
    Route("GET", _CONVERSATION, conversations.retrieve_conversation, ConversationObject),
    Route("POST", _CONVERSATION, conversations.update_conversation, ConversationObject, body=ChangedConversation),
    Route("DELETE", _CONVERSATION, conversations.delete_conversation, ConversationDeleted, forgets="conversation_id"),
    Route("POST", f"{_CONVERSATION}/items", conversations.create_items, ItemList, ("include",), NewItems),
    Route("GET", f"{_CONVERSATION}/items", conversations.list_items, ItemList, PAGE),
    Route("GET", f"{_CONVERSATION}/items/{{item_id}}", conversations.retrieve_item, dict, ("include",)),
    Route(
        "DELETE",
        f"{_CONVERSATION}/items/{{item_id}}",
        conversations.delete_item,
        ConversationObject,
        forgets="item_id",
    ),
    Route("POST", "/v1/files", files.create_file, FileObject, body=FileForm, form="file"),
    Route("GET", "/v1/files", files.list_files, FileList, FILE_LIST),
    Route("GET", "/v1/files/{file_id}", files.retrieve_file, FileObject),
    Route("DELETE", "/v1/files/{file_id}", files.delete_file, FileDeleted, forgets="file_id"),
    Route("GET", "/v1/files/{file_id}/content", files.read_file, bytes),
    Route("POST", "/v1/uploads", files.create_upload, UploadObject, body=NewUpload),
    Route("POST", "/v1/uploads/{upload_id}/parts", files.create_part, UploadPartObject, form="data"),
    Route("POST", "/v1/uploads/{upload_id}/complete", files.complete_upload, UploadObject, body=CompletedUpload),
    Route("POST", "/v1/uploads/{upload_id}/cancel", files.cancel_upload, UploadObject),
    Route("POST", "/v1/vector_stores", vector_stores.create_vector_store, VectorStoreObject, body=NewVectorStore),
    Route("GET", "/v1/vector_stores", vector_stores.list_vector_stores, VectorStoreList, STORE_LIST),
    Route("GET", _STORE, vector_stores.retrieve_vector_store, VectorStoreObject),
    Route("POST", _STORE, vector_stores.update_vector_store, VectorStoreObject, body=ChangedVectorStore),
    Route("DELETE", _STORE, vector_stores.delete_vector_store, VectorStoreDeleted, forgets="vector_store_id"),
    Route("POST", f"{_STORE}/search", vector_stores.search_vector_store, SearchPage, body=SearchRequest),
    Route("POST", f"{_STORE}/reindex", vector_stores.reindex_vector_store, VectorStoreObject),
    Route("POST", f"{_STORE}/files", vector_stores.create_store_file, StoreFileObject, body=NewStoreFile),
    Route("GET", f"{_STORE}/files", vector_stores.list_store_files, StoreFileList, STORE_LIST),
    Route("GET", _STORE_FILE, vector_stores.retrieve_store_file, StoreFileObject),
    Route("POST", _STORE_FILE, vector_stores.update_store_file, StoreFileObject, body=ChangedStoreFile),
    Route("DELETE", _STORE_FILE, vector_stores.delete_store_file, StoreFileDeleted, forgets="file_id"),
    Route("GET", f"{_STORE_FILE}/content", vector_stores.read_store_file, ContentPage),
    Route("POST", f"{_STORE}/file_batches", vector_stores.create_batch, FileBatchObject, body=NewFileBatch),
    Route("GET", _BATCH, vector_stores.retrieve_batch, FileBatchObject),
    Route("POST", f"{_BATCH}/cancel", vector_stores.cancel_batch, FileBatchObject),
    Route("GET", f"{_BATCH}/files", vector_stores.list_batch_files, StoreFileList, STORE_LIST),
    Route("POST", "/v1/embeddings", embeddings.create_embeddings, EmbeddingList, body=EmbeddingRequest),
    Route("GET", "/v1/models", models.list_models, ModelList, ("client_version",)),
    Route("GET", "/v1/models/{model:path}", models.retrieve_model, Model),
    Route("GET", "/v1/usage", usage.usage, dict, usage.QUERY),
    Route("GET", "/health", models.health, Health),
    Route("GET", "/readyz", models.ready, Health),
    Route("GET", "/metrics", metrics.metrics, str),
    Route("GET", "/openapi.json", document, dict),
    Route("POST", "/antiphon/purge", purge.purge, Purged, body=Purge, forgets="*"),
)


_SLASH: Final = "\x1f"
"""Stands for an encoded slash while a path is matched."""


class HttpApp:
    """The ASGI application over an engine.

    Args:
        bodies: the budget that all requests' bodies share.
    """

    def __init__(self, engine: Engine, bodies: BodyBudget, routes: tuple[Route, ...] = ROUTES) -> None:
        self.engine = engine
        self.routes = routes
        self._monitor: ConnectionMonitor | None = None
        self._idempotency = IdempotencyCache()
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        began = time.perf_counter()
        route, params = self._route(scope)
        kind = Exchange if scope["type"] == "http" else WebSocketExchange
        assert self._monitor is not None, "the server runs the application's lifespan"
        exchange = kind(scope, receive, send, self.engine, self._monitor, params)
        exchange.share = BodyShare(self._bodies, self.engine.config.body_bytes_max)
        logs.request_id.set(exchange.request_id)
        try:
            await self._attempt(exchange, self._handle(exchange, route))
        finally:
            exchange.share.give_back()
        method, path = (route.method, route.path) if isinstance(route, Route) else ("other", "unknown")
        self.engine.meter.requests.add(1, method, path, str(exchange.status))
        if access.isEnabledFor(logging.INFO):
            duration_ms = round((time.perf_counter() - began) * 1000, 1)
            fields = {"method": method, "route": path, "status": exchange.status, "duration_ms": duration_ms}
            access.info("request", extra={"fields": fields})

    @asynccontextmanager
    async def alive(self) -> AsyncGenerator[None]:
        """A context in which requests are served."""
        self._monitor = ConnectionMonitor()
        task = asyncio.create_task(self._monitor.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with self.alive():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _attempt(self, exchange: Exchange, work: Awaitable[None]) -> None:
        """Do the work; an exception becomes the error answer."""
        if exchange.share is not None:
            take_from(exchange.share.take_more)
        try:
            await work
        except ApiError as error:
            await exchange.fail(error)
        except (ClientDisconnected, asyncio.CancelledError):
            # The client left, or the server has waited long enough at its end.
            exchange.status = GONE
        except Exception as error:
            await exchange.fail(to_api_error(error))

    def _route(self, scope: Scope) -> tuple[Route | ApiError, dict[str, str]]:
        path, method = _path(scope), _method(scope)
        others: list[str] = []
        wanted = "GET" if method == "HEAD" else method
        for route in self.routes:
            found = route.pattern.match(path)
            if found and route.method == wanted:
                return route, {name: part.replace(_SLASH, "/") for name, part in found.groupdict().items()}
            if found and route.method != WEBSOCKET:
                others.append(route.method)
        if others:
            allow = {"allow": ", ".join(others)}
            return MethodNotAllowed(f"Not allowed to {method} on {scope['path']}.", headers=allow), {}
        return NotFound(f"Invalid URL ({method} {scope['path']})", code="unknown_url"), {}

    async def _handle(self, exchange: Exchange, route: Route | ApiError) -> None:
        caller = authenticate(exchange.scope, exchange.header, self.engine.keyring, self.engine.config.cors_origins)
        exchange.project, exchange.key_id = caller.project, caller.key_id
        if exchange.share is not None:
            exchange.share.project = caller.project
        if isinstance(route, ApiError):
            raise route
        exchange.monitor.exchanges.add(exchange)
        try:
            key = exchange.header(b"idempotency-key") if route.once else None
            if key is None:
                await route.handler(exchange)
            else:
                await self._idempotency.answer(exchange, key, lambda own: self._attempt(own, route.handler(own)))
            if route.forgets == "*":
                self._idempotency.forget_all()
            elif route.forgets:
                self._idempotency.forget(exchange.project, exchange.params[route.forgets])
        finally:
            exchange.monitor.exchanges.discard(exchange)


def make_app(engine: Engine, bodies: BodyBudget) -> ASGIApp:
    """The application that a server runs, with CORS for the origins that may use it."""
    return allow_origins(HttpApp(engine, bodies), engine.config.cors_origins)


def _path(scope: Scope) -> str:
    """The path, decoded, in which a slash that was encoded is part of a name."""
    raw: bytes = scope.get("raw_path") or b""
    if b"%2f" not in raw.lower():
        return scope["path"]
    return "/".join(unquote(part).replace("/", _SLASH) for part in raw.decode("ascii").split("/"))


def _method(scope: Scope) -> str:
    return scope["method"] if scope["type"] == "http" else WEBSOCKET

"""The handlers of ``/v1/vector_stores``. They carry; they decide nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

import msgspec
from msgspec import UNSET

from antiphon.files.search import Hit
from antiphon.http.exchange import Exchange
from antiphon.http.listing import list_page
from antiphon.store.vector_stores import Chunking, ChunkRow, FileBatch, StoreFile, VectorStore
from antiphon.wire import Json
from antiphon.wire.queries import read_query
from antiphon.wire.vector_stores import (
    ChangedStoreFile,
    ChangedVectorStore,
    ContentPage,
    FileBatchObject,
    FileCounts,
    LastError,
    NewFileBatch,
    NewStoreFile,
    NewVectorStore,
    Progress,
    ResultText,
    SearchPage,
    SearchRequest,
    SearchResult,
    StoreExpiry,
    StoreFileDeleted,
    StoreFileList,
    StoreFileObject,
    StoreListQuery,
    VectorStoreDeleted,
    VectorStoreList,
    VectorStoreObject,
)

POLL_AFTER_MS, POLL_AFTER_DONE_MS = "500", "100"
"""When a client that waits for files shall look again."""


async def create_vector_store(exchange: Exchange) -> None:
    """``POST /v1/vector_stores``."""
    new = await exchange.read(NewVectorStore, optional=True)
    await _reply_store(exchange, await exchange.engine.vector_stores.create(exchange.project, new))


async def list_vector_stores(exchange: Exchange) -> None:
    """``GET /v1/vector_stores``."""
    stores = exchange.engine.vector_stores
    page = await stores.list(exchange.project, read_query(exchange.query, StoreListQuery))
    await exchange.reply(list_page(VectorStoreList, page, lambda store: _store(store, stores.now)))


async def retrieve_vector_store(exchange: Exchange) -> None:
    """``GET /v1/vector_stores/{vector_store_id}``."""
    await _reply_store(exchange, await exchange.engine.vector_stores.retrieve(exchange.project, _id(exchange)))


async def update_vector_store(exchange: Exchange) -> None:
    """``POST /v1/vector_stores/{vector_store_id}``."""
    changes = await exchange.read(ChangedVectorStore, keep_null=("name", "metadata", "expires_after"))
    await _reply_store(exchange, await exchange.engine.vector_stores.update(exchange.project, _id(exchange), changes))


async def delete_vector_store(exchange: Exchange) -> None:
    """``DELETE /v1/vector_stores/{vector_store_id}``."""
    await exchange.engine.vector_stores.delete(exchange.project, _id(exchange))
    await exchange.reply(VectorStoreDeleted(_id(exchange)))


async def search_vector_store(exchange: Exchange) -> None:
    """``POST /v1/vector_stores/{vector_store_id}/search``."""
    request = await exchange.read(SearchRequest)
    stores = exchange.engine.vector_stores
    with exchange.while_connected():
        await stores.usable(exchange.project, _id(exchange))
        request = await stores.rewrite(exchange.caller.key_id, request)
        hits = await stores.search(exchange.project, [_id(exchange)], request)
    queries = [request.query] if isinstance(request.query, str) else request.query
    await exchange.reply(SearchPage(search_query=queries, data=[_result(hit) for hit in hits]))


async def reindex_vector_store(exchange: Exchange) -> None:
    """``POST /v1/vector_stores/{vector_store_id}/reindex``, an extension of ours."""
    await _reply_store(exchange, await exchange.engine.vector_stores.reindex(exchange.project, _id(exchange)))


async def create_store_file(exchange: Exchange) -> None:
    """``POST /v1/vector_stores/{vector_store_id}/files``."""
    new = await exchange.read(NewStoreFile)
    await _reply_file(exchange, await exchange.engine.vector_stores.add_file(exchange.project, _id(exchange), new))


async def list_store_files(exchange: Exchange) -> None:
    """``GET /v1/vector_stores/{vector_store_id}/files``."""
    query = read_query(exchange.query, StoreListQuery)
    page = await exchange.engine.vector_stores.list_files(exchange.project, _id(exchange), query)
    await exchange.reply(list_page(StoreFileList, page, _file))


async def retrieve_store_file(exchange: Exchange) -> None:
    """``GET /v1/vector_stores/{vector_store_id}/files/{file_id}``."""
    found = await exchange.engine.vector_stores.retrieve_file(exchange.project, _id(exchange), _file_id(exchange))
    await _reply_file(exchange, found)


async def update_store_file(exchange: Exchange) -> None:
    """``POST /v1/vector_stores/{vector_store_id}/files/{file_id}``."""
    changes = await exchange.read(ChangedStoreFile, keep_null=("attributes",))
    changed = await exchange.engine.vector_stores.set_attributes(
        exchange.project, _id(exchange), _file_id(exchange), changes.attributes or {}
    )
    await _reply_file(exchange, changed)


async def delete_store_file(exchange: Exchange) -> None:
    """``DELETE /v1/vector_stores/{vector_store_id}/files/{file_id}``."""
    await exchange.engine.vector_stores.remove_file(exchange.project, _id(exchange), _file_id(exchange))
    await exchange.reply(StoreFileDeleted(_file_id(exchange)))


async def read_store_file(exchange: Exchange) -> None:
    """``GET /v1/vector_stores/{vector_store_id}/files/{file_id}/content``: its text, without what chunks share; sent
    as it is read, since it may be long.
    """
    content = exchange.engine.vector_stores.content(exchange.project, _id(exchange), _file_id(exchange))
    head, tail = msgspec.json.encode(ContentPage(data=())).split(b"[]")
    end, before = 0, head + b"["
    async with aclosing(content) as pages:
        async for page in pages:
            texts: list[bytes] = []
            for chunk in page:
                texts.append(msgspec.json.encode(ResultText(_behind(chunk, end))))
                end = max(end, chunk.end)
            if not exchange.started:
                await exchange.start(200, "application/json")
            await exchange.write(before + b",".join(texts), more=True)
            before = b","
    if not exchange.started:
        await exchange.start(200, "application/json")
    await exchange.write((b"" if end else before) + b"]" + tail)


async def create_batch(exchange: Exchange) -> None:
    """``POST /v1/vector_stores/{vector_store_id}/file_batches``."""
    new = await exchange.read(NewFileBatch)
    await _reply_batch(exchange, await exchange.engine.vector_stores.create_batch(exchange.project, _id(exchange), new))


async def retrieve_batch(exchange: Exchange) -> None:
    """``GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}``."""
    found = await exchange.engine.vector_stores.retrieve_batch(exchange.project, _id(exchange), _batch_id(exchange))
    await _reply_batch(exchange, found)


async def cancel_batch(exchange: Exchange) -> None:
    """``POST /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel``."""
    found = await exchange.engine.vector_stores.cancel_batch(exchange.project, _id(exchange), _batch_id(exchange))
    await _reply_batch(exchange, found)


async def list_batch_files(exchange: Exchange) -> None:
    """``GET /v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files``."""
    query = read_query(exchange.query, StoreListQuery)
    found = await exchange.engine.vector_stores.list_files(exchange.project, _id(exchange), query, _batch_id(exchange))
    await exchange.reply(list_page(StoreFileList, found, _file))


def _id(exchange: Exchange) -> str:
    return exchange.params["vector_store_id"]


def _file_id(exchange: Exchange) -> str:
    return exchange.params["file_id"]


def _batch_id(exchange: Exchange) -> str:
    return exchange.params["batch_id"]


def _poll(exchange: Exchange, *, is_done: bool) -> None:
    exchange.headers["openai-poll-after-ms"] = POLL_AFTER_DONE_MS if is_done else POLL_AFTER_MS


async def _reply_store(exchange: Exchange, store: VectorStore) -> None:
    shown = _store(store, exchange.engine.vector_stores.now)
    _poll(exchange, is_done=shown.status != "in_progress")
    await exchange.reply(shown)


async def _reply_file(exchange: Exchange, file: StoreFile) -> None:
    _poll(exchange, is_done=file.status != "in_progress")
    await exchange.reply(_file(file))


async def _reply_batch(exchange: Exchange, batch: FileBatch) -> None:
    counts = _counts(batch.counts)
    status = "in_progress" if counts.in_progress else "cancelled" if batch.is_cancelled else "completed"
    _poll(exchange, is_done=status != "in_progress")
    await exchange.reply(
        FileBatchObject(
            id=batch.id,
            created_at=batch.created_at,
            vector_store_id=batch.vector_store_id,
            status=status,
            file_counts=counts,
        )
    )


def _counts(counts: Mapping[str, int]) -> FileCounts:
    return FileCounts(**counts, total=sum(counts.values()))


def _store(store: VectorStore, now: int) -> VectorStoreObject:
    days = store.expires_days
    return VectorStoreObject(
        id=store.id,
        created_at=store.created_at,
        name=store.name or None,
        description=store.description,
        usage_bytes=store.usage_bytes,
        file_counts=_counts(store.counts),
        status=store.status(now),
        expires_after=None if days is None else StoreExpiry(anchor="last_active_at", days=days),
        expires_at=store.expires_at,
        last_active_at=store.last_active_at,
        metadata=store.metadata,
    )


def _file(file: StoreFile) -> StoreFileObject:
    is_on_its_way = file.status == "in_progress"
    return StoreFileObject(
        id=file.id,
        usage_bytes=file.usage_bytes,
        created_at=file.created_at,
        vector_store_id=file.vector_store_id,
        status=file.status,
        last_error=LastError(file.error_code, file.error_message) if file.error_code else None,
        chunking_strategy=_strategy(file.chunking),
        attributes=file.attributes,
        x_progress=Progress(file.stage, file.done, file.total) if is_on_its_way else UNSET,
    )


def _strategy(chunking: Chunking) -> Json:
    """As it was done: the API shows the sizes of ``auto`` too."""
    sizes = {"max_chunk_size_tokens": chunking.size, "chunk_overlap_tokens": chunking.overlap}
    return {"type": "static", "static": sizes}


def _result(hit: Hit) -> SearchResult:
    found = hit.passage
    return SearchResult(
        file_id=found.file_id,
        filename=found.filename,
        score=hit.score,
        attributes=found.attributes,
        content=[ResultText(found.text)],
        x_page=UNSET if found.page is None else found.page,
        x_heading=found.heading or UNSET,
    )


def _behind(chunk: ChunkRow, end: int) -> str:
    return chunk.text[max(0, end - chunk.start) :]

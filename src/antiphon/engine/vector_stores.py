"""Vector stores: what their endpoints do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from antiphon.background.ingestion import IngestionQueue
from antiphon.engine.rewriting import QueryRewriter
from antiphon.files.filters import FilterInvalid, compile_filter
from antiphon.files.search import Hit, Ranking, Search
from antiphon.retention.files import FileSweeper
from antiphon.store import Slice, UnknownCursor, VectorStoreStore
from antiphon.store.availability import ask_store
from antiphon.store.search import FileFilter, Passage, Place
from antiphon.store.vector_stores import (
    Chunking,
    ChunkRow,
    FileBatch,
    ListingQuery,
    StoreFile,
    StoreFileQuery,
    UnknownFiles,
    VectorStore,
)
from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest, NotFound
from antiphon.wire.vector_stores import (
    ChangedVectorStore,
    ChunkingStrategy,
    NewFileBatch,
    NewStoreFile,
    NewVectorStore,
    RankingOptions,
    SearchRequest,
    StaticStrategy,
    StoreListQuery,
)

T = TypeVar("T")

TOUCH_S = 60
"""How often at most it is written down that a vector store is used."""


class VectorStores:
    """The vector stores of a store. Every method takes the ``project`` it acts for.

    Args:
        clock: Unix seconds.
        embedder: the id of the model whose vectors new ones hold; empty for none.
        rewriter: makes queries of questions.
    """

    def __init__(
        self,
        store: VectorStoreStore,
        search: Search,
        queue: IngestionQueue,
        sweeper: FileSweeper,
        ids: Callable[[str], Id],
        clock: Callable[[], float],
        *,
        embedder: str,
        rewriter: QueryRewriter,
    ) -> None:
        self._store = store
        self._search = search
        self._queue = queue
        self._sweeper = sweeper
        self._ids = ids
        self._clock = clock
        self._embedder = embedder
        self._rewriter = rewriter

    @property
    def now(self) -> int:
        """Unix seconds."""
        return int(self._clock())

    async def create(self, project: str, new: NewVectorStore) -> VectorStore:
        """A new vector store, with its first files on their way.

        Raises:
            NotFound: one of the files is not there; nothing was made.
        """
        now, chunking = self.now, _chunking(new.chunking_strategy)
        store = VectorStore(
            id=self._ids("vs"),
            project=project,
            name=new.name or "",
            description=new.description,
            metadata=new.metadata or {},
            expires_days=new.expires_after and new.expires_after.days,
            created_at=now,
            last_active_at=now,
            embedder=self._embedder,
        )
        await ask_store(self._store.create(store))
        if new.file_ids:
            files = [_entry(store.id, id, now, chunking) for id in dict.fromkeys(new.file_ids)]
            try:
                await self._add(project, store.id, files)
            except BaseException:
                await ask_store(self._store.delete(project, store.id))
                raise
        return await self.retrieve(project, store.id)

    async def retrieve(self, project: str, id: Id) -> VectorStore:
        """The vector store.

        Raises:
            NotFound: there is none of that id.
        """
        found = await ask_store(self._store.get(project, id))
        if found is None:
            raise missing(id)
        return found

    async def usable(self, project: str, id: Id) -> VectorStore:
        """The vector store, to be searched or filled.

        Raises:
            NotFound: there is none of that id, or it has expired.
        """
        found = await self.retrieve(project, id)
        if found.status(self._clock()) == "expired":
            raise _expired_error(id)
        return found

    async def require(self, project: str, ids: Sequence[Id]) -> None:
        """See that they can be searched.

        Raises:
            NotFound: some are not there, or have expired.
        """
        found = {id: await ask_store(self._store.get(project, id)) for id in ids}
        if unknown := [id for id, store in found.items() if store is None]:
            raise missing(*unknown)
        now = self._clock()
        if expired := [id for id, store in found.items() if store is not None and store.status(now) == "expired"]:
            raise _expired_error(*expired)

    async def list(self, project: str, query: StoreListQuery) -> Slice[VectorStore]:
        """A page of them."""
        page = ListingQuery(after=query.after, before=query.before, limit=query.limit, order=query.order)
        return await _read_page(self._store.list(project, page), query)

    async def update(self, project: str, id: Id, request: ChangedVectorStore) -> VectorStore:
        """Change what the request names."""
        changes: dict[str, Any] = {}
        if request.name is not UNSET:
            changes["name"] = request.name or ""
        if request.metadata is not UNSET:
            changes["metadata"] = request.metadata or {}
        if request.expires_after is not UNSET:
            changes["expires_days"] = request.expires_after and request.expires_after.days
        found = await ask_store(self._store.update(project, id, changes))
        if found is None:
            raise missing(id)
        return found

    async def delete(self, project: str, id: Id) -> None:
        """Delete it; its files stay."""
        if not await ask_store(self._store.delete(project, id)):
            raise missing(id)
        self._sweeper.tidy_soon()

    # Files

    async def _add(self, project: str, id: Id, files: Sequence[StoreFile], batch: Id | None = None) -> None:
        try:
            await ask_store(self._store.add_files(project, id, files, self.now, batch))
        except UnknownFiles as error:
            raise NotFound(f"Files {list(error.ids)} not found.") from error
        self._queue.wake()

    async def add_file(self, project: str, id: Id, new: NewStoreFile) -> StoreFile:
        """Add a file. One that is there already, or on its way, is taken in again where it is to be cut differently."""
        await self.usable(project, id)
        entry = _entry(id, new.file_id, self.now, _chunking(new.chunking_strategy), new.attributes)
        await self._add(project, id, [entry])
        return await self.retrieve_file(project, id, new.file_id)

    async def retrieve_file(self, project: str, id: Id, file_id: Id) -> StoreFile:
        """A file of it.

        Raises:
            NotFound: it is not there.
        """
        found = await ask_store(self._store.get_file(project, id, file_id))
        if found is None:
            await self.retrieve(project, id)
            raise _file_missing(id, file_id)
        return found

    async def list_files(
        self, project: str, id: Id, query: StoreListQuery, batch: Id | None = None
    ) -> Slice[StoreFile]:
        """A page of its files, or of those of a batch."""
        if batch is None:
            await self.retrieve(project, id)
        else:
            await self.retrieve_batch(project, id, batch)
        page = StoreFileQuery(
            after=query.after,
            before=query.before,
            limit=query.limit,
            order=query.order,
            filter=query.filter,
            batch=batch,
        )
        return await _read_page(self._store.list_files(project, id, page), query)

    async def set_attributes(self, project: str, id: Id, file_id: Id, attributes: dict[str, Any]) -> StoreFile:
        """Replace a file's attributes."""
        found = await ask_store(self._store.set_attributes(project, id, file_id, attributes))
        if found is None:
            raise _file_missing(id, file_id)
        return found

    async def remove_file(self, project: str, id: Id, file_id: Id) -> None:
        """Take a file out; the file itself stays."""
        if not await ask_store(self._store.remove_file(project, id, file_id)):
            raise _file_missing(id, file_id)
        self._sweeper.tidy_soon()

    async def content(self, project: str, id: Id, file_id: Id) -> AsyncGenerator[Sequence[ChunkRow]]:
        """The chunks of a file, in order, some at a time.

        Raises:
            NotFound: it is not there.
        """
        found = await ask_store(self._store.read_chunks(project, id, file_id))
        if found is None:
            raise _file_missing(id, file_id)
        while found:
            yield found
            last = found[-1].ordinal
            found = await ask_store(self._store.read_chunks(project, id, file_id, last))

    # Batches

    async def create_batch(self, project: str, id: Id, new: NewFileBatch) -> FileBatch:
        """Add files together.

        Raises:
            InvalidRequest: not exactly one of ``file_ids`` and ``files``.
        """
        if (new.file_ids is None) == (new.files is None):
            text = "Give either 'file_ids' or 'files'."
            raise InvalidRequest(text, code="mutually_exclusive_parameters", param="file_ids")
        await self.usable(project, id)
        batch = self._ids("vsfb")
        entries = new.files or [
            NewStoreFile(file_id=each, attributes=new.attributes, chunking_strategy=new.chunking_strategy)
            for each in new.file_ids or ()
        ]
        files = {
            each.file_id: _entry(id, each.file_id, self.now, _chunking(each.chunking_strategy), each.attributes)
            for each in entries
        }
        await self._add(project, id, list(files.values()), batch)
        return await self.retrieve_batch(project, id, batch)

    async def retrieve_batch(self, project: str, id: Id, batch: Id) -> FileBatch:
        """A batch.

        Raises:
            NotFound: there is none of that id.
        """
        found = await ask_store(self._store.get_batch(project, id, batch))
        if found is None:
            await self.retrieve(project, id)
            raise NotFound(f"No file batch found with id '{batch}' in vector store '{id}'.")
        return found

    async def cancel_batch(self, project: str, id: Id, batch: Id) -> FileBatch:
        """Cancel those of its files that are not done."""
        await ask_store(self._store.cancel_batch(project, id, batch))
        self._sweeper.tidy_soon()
        return await self.retrieve_batch(project, id, batch)

    # Search

    async def resolve(self, project: str, name: str) -> Id:
        """The id of the vector store of that id, or the newest of that name.

        Raises:
            NotFound: there is none.
        """
        if (found := await ask_store(self._store.get(project, name))) is not None:
            return found.id
        query = ListingQuery(limit=100)
        while True:
            page = await ask_store(self._store.list(project, query))
            for store in page.found:
                if store.name == name:
                    return store.id
            if not page.has_more:
                raise missing(name)
            query = ListingQuery(limit=100, after=page.found[-1].id)

    async def reindex(self, project: str, id: Id) -> VectorStore:
        """Have its files embedded by the embedding model of today. Until a file is done it is found by its words.

        Raises:
            NotFound: it is not there, or has expired.
        """
        await self.usable(project, id)
        await ask_store(self._store.reindex(project, id, self._embedder))
        self._queue.wake()
        self._sweeper.tidy_soon()
        return await self.retrieve(project, id)

    async def rewrite(self, key_id: str, request: SearchRequest) -> SearchRequest:
        """The request with the queries that it is to be answered with, rewritten on the key's account.

        Raises:
            RateLimited, InsufficientQuota: the key is over its limits.
        """
        if not request.rewrite_query:
            return request
        queries = [request.query] if isinstance(request.query, str) else request.query
        rewritten = await self._rewriter.rewrite(queries, key_id)
        return msgspec.structs.replace(request, query=rewritten, rewrite_query=False)

    async def search(self, project: str, ids: Sequence[Id], request: SearchRequest) -> list[Hit]:
        """The best hits in some vector stores.

        Raises:
            NotFound: one is not there, or has expired. InvalidRequest: the filter means nothing.
        """
        stores = [await self.usable(project, id) for id in dict.fromkeys(ids)]
        queries = [request.query] if isinstance(request.query, str) else request.query
        hits = await ask_store(
            self._search.find(
                stores,
                list(dict.fromkeys(queries)),
                limit=request.max_num_results,
                admits=filter_of(request.filters, "filters"),
                ranking=ranking_of(request.ranking_options),
            )
        )
        now = self.now
        stale = [store.id for store in stores if store.last_active_at + TOUCH_S <= now]
        if stale:
            await ask_store(self._store.touch(stale, now))
        return hits

    async def find_places(self, project: str, places: Sequence[Place]) -> Mapping[Place, Passage]:
        """What stands at those places, as far as it can still be found."""
        return await ask_store(self._search.find_places(project, places))


def filter_of(raw: Json | None, member: str) -> FileFilter | None:
    """The filter of a request.

    Raises:
        InvalidRequest: it means nothing.
    """
    if not raw:
        return None
    try:
        return compile_filter(raw)
    except FilterInvalid as fault:
        param = f"{member}.{fault.path}" if fault.path else member
        raise InvalidRequest(f"Invalid '{param}': {fault}.", code="invalid_value", param=param) from fault


def ranking_of(options: RankingOptions | None) -> Ranking:
    """How a request wants its hits scored.

    Raises:
        InvalidRequest: nothing would count.
    """
    if options is None:
        return Ranking()
    weights = options.hybrid_search
    threshold, reranks = options.score_threshold or 0.0, options.ranker != "none"
    if weights is None:
        return Ranking(threshold=threshold, reranks=reranks)
    if not weights.embedding_weight + weights.text_weight:
        text = "Invalid 'ranking_options.hybrid_search': one of its weights must be more than 0."
        raise InvalidRequest(text, code="invalid_value", param="ranking_options.hybrid_search")
    return Ranking(
        embedding_weight=weights.embedding_weight,
        text_weight=weights.text_weight,
        threshold=threshold,
        reranks=reranks,
    )


async def _read_page(answer: Awaitable[Slice[T]], query: StoreListQuery) -> Slice[T]:
    try:
        return await ask_store(answer)
    except UnknownCursor as error:
        param = "after" if str(error) == query.after else "before"
        raise InvalidRequest(f"Nothing with id '{error}' was found in this list.", param=param) from error


def _entry(store: Id, id: Id, now: int, chunking: Chunking, attributes: dict[str, Any] | None = None) -> StoreFile:
    return StoreFile(id=id, vector_store_id=store, created_at=now, attributes=attributes or {}, chunking=chunking)


def _chunking(strategy: ChunkingStrategy | None) -> Chunking:
    if not isinstance(strategy, StaticStrategy):
        return Chunking()
    size, overlap = strategy.static.max_chunk_size_tokens, strategy.static.chunk_overlap_tokens
    if overlap * 2 > size:
        param = "chunking_strategy.static.chunk_overlap_tokens"
        text = f"Invalid '{param}': it may be at most half of 'max_chunk_size_tokens'."
        raise InvalidRequest(text, code="invalid_value", param=param)
    return Chunking(size, overlap, is_auto=False)


def missing(*ids: Id) -> NotFound:
    """No such vector stores."""
    return NotFound(f"Vector store with id {list(ids)} not found.")


def _expired_error(*ids: Id) -> NotFound:
    return NotFound(f"Vector store with id {list(ids)} has expired.")


def _file_missing(id: Id, file_id: Id) -> NotFound:
    return NotFound(f"No file found with id '{file_id}' in vector store '{id}'.")

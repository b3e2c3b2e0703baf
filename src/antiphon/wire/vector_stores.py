"""Vector stores as they cross the API. Source: the official SDK's types and the limits of the API's document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, UnsetType

from antiphon.wire import Id, Json
from antiphon.wire.paging import ListPage
from antiphon.wire.values import Metadata, StrictStruct

FILES_MAX = 2000
FIRST_FILES_MAX = 500
RESULTS_MAX = 50
QUERIES_MAX = 32

AttributeValue: TypeAlias = Annotated[str, Meta(max_length=512)] | int | float | bool
Attributes: TypeAlias = Annotated[dict[Annotated[str, Meta(max_length=64)], AttributeValue], Meta(max_length=16)]
FileId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=512)]


class FileCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many files, by status."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class StoreExpiry(StrictStruct, kw_only=True):
    """After how many days without use a vector store expires."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Meta(ge=1, le=365)]


class VectorStoreObject(msgspec.Struct, frozen=True, kw_only=True):
    """A vector store; times in Unix seconds."""

    id: Id
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str | None
    description: str | None
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["expired", "in_progress", "completed"]
    expires_after: StoreExpiry | None
    expires_at: int | None
    last_active_at: int
    metadata: dict[str, str]


class VectorStoreList(ListPage[VectorStoreObject], frozen=True):
    """A page of vector stores."""


class VectorStoreDeleted(msgspec.Struct, frozen=True):
    """What is gone."""

    id: Id
    object: Literal["vector_store.deleted"] = "vector_store.deleted"
    deleted: bool = True


class LastError(msgspec.Struct, frozen=True):
    """Why a file was not taken in."""

    code: str
    message: str


class Progress(msgspec.Struct, frozen=True):
    """How far taking a file in has come: steps of a stage. An extension of ours."""

    stage: str
    done: int
    total: int


class StaticSizes(StrictStruct, kw_only=True):
    """Sizes of chunks, in tokens."""

    max_chunk_size_tokens: Annotated[int, Meta(ge=100, le=4096)]
    chunk_overlap_tokens: Annotated[int, Meta(ge=0, le=2048)]


class Strategy(StrictStruct, tag_field="type"):
    """How a file is cut."""


class AutoStrategy(Strategy, tag="auto"):
    """800 tokens, of which 400 overlap."""


class StaticStrategy(Strategy, tag="static", kw_only=True):
    """As the request says."""

    static: StaticSizes


ChunkingStrategy: TypeAlias = AutoStrategy | StaticStrategy


class StoreFileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a vector store."""

    id: Id
    object: Literal["vector_store.file"] = "vector_store.file"
    usage_bytes: int
    created_at: int
    vector_store_id: Id
    status: Literal["in_progress", "completed", "failed", "cancelled"]
    last_error: LastError | None
    chunking_strategy: Json
    attributes: dict[str, Any]
    x_progress: Progress | UnsetType = UNSET


class StoreFileList(ListPage[StoreFileObject], frozen=True):
    """A page of the files in a vector store."""


class StoreFileDeleted(msgspec.Struct, frozen=True):
    """What is gone."""

    id: Id
    object: Literal["vector_store.file.deleted"] = "vector_store.file.deleted"
    deleted: bool = True


class FileBatchObject(msgspec.Struct, frozen=True, kw_only=True):
    """Files that were added together."""

    id: Id
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: Id
    status: Literal["in_progress", "completed", "cancelled", "failed"]
    file_counts: FileCounts


class NewVectorStore(StrictStruct, kw_only=True):
    """The body of ``POST /v1/vector_stores``."""

    name: Annotated[str, Meta(max_length=512)] | None = None
    description: Annotated[str, Meta(max_length=4096)] | None = None
    file_ids: Annotated[list[FileId], Meta(max_length=FIRST_FILES_MAX)] | None = None
    chunking_strategy: ChunkingStrategy | None = None
    expires_after: StoreExpiry | None = None
    metadata: Metadata | None = None


class ChangedVectorStore(StrictStruct, kw_only=True):
    """The body of ``POST /v1/vector_stores/{id}``; ``null`` takes a member away."""

    name: Annotated[str, Meta(max_length=512)] | UnsetType | None = UNSET
    expires_after: StoreExpiry | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET


class NewStoreFile(StrictStruct, kw_only=True):
    """A file that is added, as a body or in a batch."""

    file_id: FileId
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


class ChangedStoreFile(StrictStruct, kw_only=True):
    """The body of ``POST /v1/vector_stores/{id}/files/{file_id}``."""

    attributes: Attributes | None


class NewFileBatch(StrictStruct, kw_only=True):
    """The body of ``POST /v1/vector_stores/{id}/file_batches``: either ``file_ids``, or ``files``."""

    file_ids: Annotated[list[FileId], Meta(min_length=1, max_length=FILES_MAX)] | None = None
    files: Annotated[list[NewStoreFile], Meta(min_length=1, max_length=FILES_MAX)] | None = None
    attributes: Attributes | None = None
    chunking_strategy: ChunkingStrategy | None = None


Weight: TypeAlias = Annotated[float, Meta(ge=0, le=1e6)]


class HybridSearch(StrictStruct, kw_only=True):
    """How much meaning and words count."""

    embedding_weight: Weight
    text_weight: Weight


class RankingOptions(StrictStruct, kw_only=True):
    """How hits are scored. ``ranker``: with ``none`` no reranker is asked; the other names mean whichever there is."""

    ranker: Literal["none", "auto", "default-2024-11-15"] | None = None
    score_threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    hybrid_search: HybridSearch | None = None


QueryText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=8192)]


class SearchRequest(StrictStruct, kw_only=True):
    """The body of ``POST /v1/vector_stores/{id}/search``."""

    query: QueryText | Annotated[list[QueryText], Meta(min_length=1, max_length=QUERIES_MAX)]
    filters: Json | None = None
    max_num_results: Annotated[int, Meta(ge=1, le=RESULTS_MAX)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = False


class ResultText(msgspec.Struct, frozen=True):
    """What was found."""

    text: str
    type: Literal["text"] = "text"


class SearchResult(msgspec.Struct, frozen=True, kw_only=True):
    """A hit; ``x_page`` and ``x_heading``, where it stands, are an extension of ours."""

    file_id: Id
    filename: str
    score: float
    attributes: dict[str, Any]
    content: Sequence[ResultText]
    x_page: int | UnsetType = UNSET
    x_heading: str | UnsetType = UNSET


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """All hits."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: Sequence[str]
    data: Sequence[SearchResult]
    has_more: bool = False
    next_page: None = None


class ContentPage(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a file, as it is searched."""

    object: Literal["vector_store.file_content.page"] = "vector_store.file_content.page"
    data: Sequence[ResultText]
    has_more: bool = False
    next_page: None = None


class StoreListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of the lists of vector stores, and of the files in one."""

    after: str | None = None
    before: str | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    order: Literal["asc", "desc"] = "desc"
    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None

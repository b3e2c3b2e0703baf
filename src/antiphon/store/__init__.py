"""What the rest of the system asks of a store: one port for each resource, and ``Store``, which holds them all.

Where something belongs to somebody, a call takes the ``project``; another project's id is answered as a missing one.
Every method may raise ``StoreUnavailable``. A method that returned has done all of its work durably (a store in memory
excepted); one that raised has done nothing, unless it says so.

What would not hold if several processes shared a store is named in the docstring of its port, as "Needs a single
process". Three things are in no port: they live in the process, and would need a port first. These are the rate limits
(``access.keyring``), the answers under an ``Idempotency-Key`` (``http.idempotency``), and what wakes readers and
workers (``background.notifier``), who look again after a second in any case.
"""

from __future__ import annotations

from typing import Protocol

from antiphon.store.conversations import Conversation, ConversationLock, ConversationStore
from antiphon.store.deliveries import DeliveryStore
from antiphon.store.errors import (
    ContextTooLarge,
    ConversationLocked,
    DuplicateItem,
    DuplicateResponse,
    Fenced,
    QueueFull,
    StillRunning,
    StoreUnavailable,
    UnknownConversation,
    UnknownCursor,
)
from antiphon.store.files import FileStore
from antiphon.store.keys import KeyStore, UsageStore
from antiphon.store.responses import ItemStore, Page, Record, ResponseStore, Slice, StoredItem
from antiphon.store.retention import Purge, Purged, RetentionStore, Selection
from antiphon.store.runs import RunStore
from antiphon.store.search import SearchIndex
from antiphon.store.vector_stores import VectorStoreStore
from antiphon.telemetry.meter import StoreStats

__all__ = [
    "ContextTooLarge",
    "Conversation",
    "ConversationLock",
    "ConversationLocked",
    "ConversationStore",
    "DuplicateItem",
    "DuplicateResponse",
    "Fenced",
    "FileStore",
    "ItemStore",
    "Page",
    "Purge",
    "Purged",
    "QueueFull",
    "Record",
    "ResponseStore",
    "RetentionStore",
    "SearchIndex",
    "Selection",
    "Slice",
    "StillRunning",
    "Store",
    "StoreStats",
    "StoreUnavailable",
    "StoredItem",
    "UnknownConversation",
    "UnknownCursor",
    "VectorStoreStore",
]


class Store(Protocol):
    """All that is kept, in one place: what is one transaction may touch several resources."""

    @property
    def responses(self) -> ResponseStore: ...

    @property
    def items(self) -> ItemStore: ...

    @property
    def conversations(self) -> ConversationStore: ...

    @property
    def runs(self) -> RunStore: ...

    @property
    def deliveries(self) -> DeliveryStore: ...

    @property
    def keys(self) -> KeyStore: ...

    @property
    def usage(self) -> UsageStore: ...

    @property
    def files(self) -> FileStore: ...

    @property
    def vector_stores(self) -> VectorStoreStore: ...

    @property
    def index(self) -> SearchIndex: ...

    @property
    def retention(self) -> RetentionStore: ...

    async def read_stats(self) -> StoreStats:
        """How large and how busy it is."""
        ...

    async def close(self) -> None:
        """Finish what is queued, then let go of everything."""
        ...

"""Responses in this process's memory: for tests, and for ``store = memory``. Nothing outlives the process."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import msgspec

from antiphon.store import (
    Claim,
    Conversation,
    DuplicateResponse,
    Page,
    Record,
    Selection,
    Slice,
    StillRunning,
    StoredItem,
    StoreStats,
    StoreUnavailable,
    UnknownConversation,
)
from antiphon.store.claims import Claims
from antiphon.store.deliveries import Delivery, MemoryDeliveries
from antiphon.store.ledger import Ledger
from antiphon.store.pages import page, selected
from antiphon.store.runs import Batch, Claimed, Excerpt, NewRun, Unfinished
from antiphon.store.shelf import Shelf, Shelved, append, refuse_twice
from antiphon.wire import Id, Json
from antiphon.wire.listing import ListQuery

BYTES_MAX = 1 << 30
"""How many bytes of documents one memory store keeps, unless told."""


class _Kept(msgspec.Struct):
    """A response; ``before`` is the first of its places in its conversation."""

    record: Record
    before: int = 0
    hidden: bool = False


class _Named(msgspec.Struct):
    """Whom a response was made for, as its request said."""

    user: str | None = None
    safety_identifier: str | None = None


class MemoryStore:
    """A ``Store`` of dictionaries.

    Args:
        bytes_max: bound on the bytes of all documents; a commit past it raises ``StoreUnavailable``. An item that a
            response and a conversation hold counts twice.
    """

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: dict[Id, _Kept] = {}
        self._children: Counter[tuple[str, Id | None]] = Counter()
        self._shelf = Shelf()
        self._claims = Claims()
        self._ledger = Ledger()
        self.deliveries = MemoryDeliveries()
        # By owner and id, who holds the item, the newest last.
        self._holders: dict[tuple[str, Id], dict[Id, StoredItem]] = {}
        self._closed = False

    def __len__(self) -> int:
        """How many responses and conversations are kept, hidden ones included."""
        return len(self._kept) + len(self._shelf)

    async def commit(self, record: Record) -> None:
        """See ``ResponseStore.commit``; here it lasts as long as the process."""
        self._refuse_when_closed()
        items, conversation = (*record.input, *record.output), record.conversation_id
        shelved = self._shelf.check(record.owner, conversation, items) if conversation else None
        if record.id in self._kept:
            raise DuplicateResponse(record.id)
        self._grow(_bytes_of(record) + (_bytes(items) if shelved else 0))
        before = append(shelved, items, record.created_at) if shelved else 0
        self._kept[record.id] = _Kept(record, before)
        self._children[record.owner, record.previous_response_id] += 1
        self._hold(record.owner, record.id, items)
        if conversation:
            self._shelf.users[conversation] += 1
            self._hold(record.owner, conversation, items)

    async def get(self, owner: str, id: Id) -> Record | None:
        """See ``ResponseStore.get``."""
        record = self._visible(owner, id)
        return msgspec.structs.replace(record, input=()) if record else None

    async def items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ResponseStore.items``."""
        record = self._visible(owner, id)
        if record is None:
            return None
        return page(record.input, after, limit, order)

    async def history(self, owner: str, id: Id) -> list[StoredItem] | None:
        """See ``ResponseStore.history``."""
        if self._ledger.running(id) and self._visible(owner, id):
            raise StillRunning(id)
        return None if id in self._ledger.expiry else await self.context(owner, id)

    async def context(self, owner: str, id: Id) -> list[StoredItem] | None:
        """See ``ResponseStore.context``."""
        record = self._visible(owner, id)
        if record is None:
            return None
        oldest_first = list(self._chain(record))[::-1]
        first = oldest_first[0]
        said = self._shelf.before(first.conversation_id, self._kept[first.id].before) if first.conversation_id else ()
        return [*said, *chain.from_iterable((*turn.input, *turn.output) for turn in oldest_first)]

    async def responses(self, owner: str, query: ListQuery) -> Slice[Record]:
        """See ``ResponseStore.responses``."""
        self._refuse_when_closed()
        seen = [kept.record for kept in self._kept.values() if not kept.hidden and kept.record.owner == owner]
        found = selected(seen, query, lambda record: _is_asked(record, query))
        return msgspec.structs.replace(found, found=[msgspec.structs.replace(each, input=()) for each in found.found])

    async def delete(self, owner: str, id: Id) -> bool:
        """See ``ResponseStore.delete``."""
        record = self._visible(owner, id)
        if record is None:
            return False
        self._delete(record)
        return True

    def _delete(self, record: Record) -> None:
        self._kept[record.id].hidden = True
        self._bytes -= self._ledger.bytes(record.id)
        self._ledger.forget(record.id)
        self._let_go(record.owner, record.id, (*record.input, *record.output))
        for turn in list(self._chain(record)):
            if not self._kept[turn.id].hidden or self._children[record.owner, turn.id]:
                break
            self._remove(turn)

    async def purge(self, selection: Selection, limit: int) -> int:
        """See ``ResponseStore.purge``."""
        chosen = (record for record in self._all_visible() if self._is_chosen(record, selection))
        oldest = heapq.nsmallest(limit, chosen, key=lambda record: record.created_at)
        for record in oldest:
            self._delete(record)
        return len(oldest)

    def _is_chosen(self, record: Record, selection: Selection) -> bool:
        if selection.ended and self._ledger.running(record.id):
            return False
        expires_at = self._ledger.expiry.get(record.id)
        if selection.expired is not None and (expires_at is None or expires_at > selection.expired):
            return False
        return _is_chosen(record, selection)

    async def records(self, *, after: Id | None, limit: int) -> list[Record]:
        """See ``ResponseStore.records``."""
        behind = (record for record in self._all_visible() if record.id > (after or ""))
        return heapq.nsmallest(limit, behind, key=lambda record: record.id)

    async def shrink(self, keep_bytes: int) -> int:
        """See ``ResponseStore.shrink``; the interpreter looks after its memory itself."""
        return 0

    async def scrub(self) -> bool:
        """See ``ResponseStore.scrub``; there are no files."""
        return True

    async def stats(self) -> StoreStats:
        """See ``ResponseStore.figures``."""
        return StoreStats(used_bytes=self._bytes, deliveries=await self.deliveries.count())

    async def create_conversation(self, conversation: Conversation, items: Sequence[StoredItem]) -> None:
        """See ``ConversationStore.create_conversation``."""
        self._refuse_when_closed()
        refuse_twice(items)
        self._grow(_bytes(items))
        self._shelf.add(conversation)
        self._append(conversation.owner, conversation.id, items, conversation.used_at)

    async def conversation(self, owner: str, id: Id) -> Conversation | None:
        """See ``ConversationStore.conversation``."""
        shelved = self._shelved(owner, id)
        return shelved and shelved.conversation

    async def conversations(self, owner: str, query: ListQuery) -> Slice[Conversation]:
        """See ``ConversationStore.conversations``."""
        self._refuse_when_closed()
        seen = [shelved.conversation for shelved in self._shelf if shelved.conversation.owner == owner]
        return selected(seen, query, lambda each: query.metadata.items() <= each.metadata.items())

    async def update_conversation(self, owner: str, id: Id, metadata: dict[str, str]) -> Conversation | None:
        """See ``ConversationStore.update_conversation``."""
        shelved = self._shelved(owner, id)
        if shelved is None:
            return None
        shelved.conversation = msgspec.structs.replace(shelved.conversation, metadata=metadata)
        return shelved.conversation

    async def delete_conversation(self, owner: str, id: Id) -> bool:
        """See ``ConversationStore.delete_conversation``."""
        shelved = self._shelved(owner, id)
        if shelved is None:
            return False
        shelved.hidden = True
        self._let_go(owner, id, shelved.entries.values())
        self._bytes -= self._shelf.remove_unneeded(id)
        return True

    async def append(self, owner: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
        """See ``ConversationStore.append``."""
        self._refuse_when_closed()
        self._shelf.check(owner, id, items)
        self._grow(_bytes(items))
        self._append(owner, id, items, at)

    async def conversation_items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page | None:
        """See ``ConversationStore.conversation_items``."""
        shelved = self._shelved(owner, id)
        return shelved and page(list(shelved.entries.values()), after, limit, order)

    async def conversation_history(self, owner: str, id: Id) -> list[StoredItem] | None:
        """See ``ConversationStore.conversation_history``."""
        shelved = self._shelved(owner, id)
        return list(shelved.entries.values()) if shelved else None

    async def conversation_item(self, owner: str, id: Id, item_id: Id) -> StoredItem | None:
        """See ``ConversationStore.conversation_item``."""
        shelved = self._shelved(owner, id)
        found = shelved.entries.values() if shelved else ()
        return next((item for item in found if item.id == item_id), None)

    async def remove_item(self, owner: str, id: Id, item_id: Id) -> bool:
        """See ``ConversationStore.remove_item``."""
        shelved = self._shelved(owner, id)
        entries = shelved.entries if shelved else {}
        place = next((pos for pos, item in entries.items() if item.id == item_id), None)
        if place is None:
            return False
        item = entries.pop(place)
        self._bytes -= len(item.doc)
        self._let_go(owner, id, [item])
        return True

    async def idle(self, limit: int) -> list[Conversation]:
        """See ``ConversationStore.idle``."""
        self._refuse_when_closed()
        return heapq.nsmallest(limit, (shelved.conversation for shelved in self._shelf), key=lambda each: each.used_at)

    async def referenced(self, owner: str, ids: Sequence[Id]) -> dict[Id, StoredItem]:
        """See ``ConversationStore.referenced``."""
        self._refuse_when_closed()
        held = {id: self._holders.get((owner, id)) for id in ids}
        return {id: list(holders.values())[-1] for id, holders in held.items() if holders}

    async def claim(self, owner: str, id: Id) -> Claim:
        """See ``ConversationStore.claim``."""
        return self._claims.take(owner, id)

    async def enqueue(self, run: NewRun, *, queued_max: int, per_project_max: int) -> None:
        """See ``RunStore.enqueue``."""
        self._refuse_when_closed()
        record, conversation = run.record, run.record.conversation_id
        self._ledger.refuse_full(record.owner, queued_max, per_project_max)
        if record.id in self._kept:
            raise DuplicateResponse(record.id)
        shelved = self._shelf.visible(record.owner, conversation) if conversation else None
        if conversation and shelved is None:
            raise UnknownConversation(conversation)
        self._grow(_bytes_of(record) + sum(map(len, run.events)))
        if conversation:
            self._shelf.users[conversation] += 1
        self._kept[record.id] = _Kept(record, shelved.next_pos if shelved else 0)
        self._children[record.owner, record.previous_response_id] += 1
        self._hold(record.owner, record.id, record.input)
        self._ledger.add(run)

    async def claim_runs(self, node: str, limit: int) -> list[Claimed]:
        """See ``RunStore.claim_runs``."""
        self._refuse_when_closed()
        claimed = list(self._ledger.claim(node, limit))
        for run in claimed:
            self._change(run.id, status="in_progress")
        return claimed

    async def log(self, id: Id, epoch: int, batch: Batch, progress: bytes | None = None) -> None:
        """See ``RunStore.log``."""
        self._refuse_when_closed()
        entry = self._ledger.owned(id, epoch)
        self._grow(sum(map(len, batch.events)))
        self._ledger.write(id, batch)
        entry.progress = entry.progress if progress is None else progress

    async def finish(
        self,
        id: Id,
        epoch: int,
        batch: Batch,
        record: Record,
        expires_at: int | None = None,
        deliveries: Sequence[Delivery] = (),
    ) -> None:
        """See ``RunStore.finish``."""
        self._refuse_when_closed()
        if self._ledger.has_ended(id, epoch):
            return
        entry = self._ledger.owned(id, epoch)
        kept, conversation = self._kept[id], record.conversation_id
        items = (*kept.record.input, *record.output)
        shelved = self._shelf.check(record.owner, conversation, items) if conversation else None
        joined = _bytes(items) if shelved else 0
        self._grow(
            _bytes(record.output) + len(record.doc) - len(kept.record.doc) + joined + sum(map(len, batch.events))
        )
        self._ledger.write(id, batch)
        self._change(id, status=record.status, doc=record.doc, output=record.output)
        self._hold(record.owner, id, record.output)
        if shelved and conversation:
            kept.before = append(shelved, items, record.created_at)
            self._hold(record.owner, conversation, items)
        entry.status, entry.node = "ended", None
        if expires_at is not None:
            self._ledger.expiry[id] = expires_at
        self.deliveries.add(deliveries)

    async def release(self, id: Id, epoch: int) -> None:
        """See ``RunStore.release``."""
        entry = self._ledger.runs.get(id)
        if entry and entry.epoch == epoch and entry.status == "in_progress":
            entry.status, entry.node, entry.attempt = "queued", None, entry.attempt - 1

    async def recover(self, node: str) -> list[Unfinished]:
        """See ``RunStore.recover``."""
        self._refuse_when_closed()
        self._ledger.recover(node)
        return self._unfinished()

    async def sweep(self, node: str, held: Sequence[Id]) -> list[Unfinished]:
        """See ``RunStore.sweep``."""
        self._refuse_when_closed()
        self._ledger.sweep(node, held)
        return self._unfinished()

    def _unfinished(self) -> list[Unfinished]:
        return [
            Unfinished(
                id=id,
                owner=entry.owner,
                status=entry.status,
                epoch=entry.epoch,
                conversation_id=self._kept[id].record.conversation_id,
            )
            for id, entry in self._ledger.runs.items()
        ]

    async def cancel(self, owner: str, id: Id) -> int | None:
        """See ``RunStore.cancel``."""
        self._refuse_when_closed()
        epoch = self._ledger.cancel(owner, id)
        if epoch is not None:
            self._change(id, status="cancelled")
        return epoch

    async def events(self, owner: str, id: Id, *, after: int, bytes_max: int) -> Excerpt | None:
        """See ``RunStore.events``."""
        return self._ledger.excerpt(id, after, bytes_max) if self._visible(owner, id) else None

    async def seal(self, id: Id) -> None:
        """See ``RunStore.seal``; nothing is packed."""
        if id in self._ledger.runs and self._ledger.runs[id].status == "ended":
            del self._ledger.runs[id]

    def _change(self, id: Id, **fields: Any) -> None:
        self._kept[id].record = msgspec.structs.replace(self._kept[id].record, **fields)

    async def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        self._shelf.clear()
        self._ledger.clear()
        self._holders.clear()
        self._kept.clear()
        self._children.clear()

    def _visible(self, owner: str, id: Id) -> Record | None:
        self._refuse_when_closed()
        kept = self._kept.get(id)
        return kept.record if kept and not kept.hidden and kept.record.owner == owner else None

    def _all_visible(self) -> Iterator[Record]:
        self._refuse_when_closed()
        return (kept.record for kept in self._kept.values() if not kept.hidden)

    def _chain(self, record: Record) -> Iterator[Record]:
        """The record and what came before it, newest first, to where the owner changes or a link is gone."""
        link: Id | None = record.id
        # No chain is longer than what is kept, not even a ring.
        for _ in range(len(self._kept)):
            kept = self._kept.get(link) if link else None
            if kept is None or kept.record.owner != record.owner:
                return
            yield kept.record
            link = kept.record.previous_response_id

    def _remove(self, record: Record) -> None:
        del self._kept[record.id]
        self._bytes -= _bytes_of(record)
        parent = (record.owner, record.previous_response_id)
        self._children[parent] -= 1
        if not self._children[parent]:
            del self._children[parent]
        if record.conversation_id:
            self._shelf.users[record.conversation_id] -= 1
            self._bytes -= self._shelf.remove_unneeded(record.conversation_id)

    def _shelved(self, owner: str, id: Id) -> Shelved | None:
        self._refuse_when_closed()
        return self._shelf.visible(owner, id)

    def _append(self, owner: str, id: Id, items: Sequence[StoredItem], at: int) -> None:
        append(self._shelf.check(owner, id, items), items, at)
        self._hold(owner, id, items)

    def _hold(self, owner: str, holder: Id, items: Iterable[StoredItem]) -> None:
        for item in items:
            self._holders.setdefault((owner, item.id), {})[holder] = item

    def _let_go(self, owner: str, holder: Id, items: Iterable[StoredItem]) -> None:
        for item in items:
            holders = self._holders.get((owner, item.id), {})
            holders.pop(holder, None)
            if not holders:
                self._holders.pop((owner, item.id), None)

    def _grow(self, size: int) -> None:
        if self._bytes + size > self._bytes_max:
            raise StoreUnavailable(f"The memory store is full: it holds {self._bytes_max} bytes at most.")
        self._bytes += size

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed.")


def _is_chosen(record: Record, selection: Selection) -> bool:
    if selection.before is not None and record.created_at >= selection.before:
        return False
    if selection.owner is not None and record.owner != selection.owner:
        return False
    if selection.key_id is not None and record.key_id != selection.key_id:
        return False
    if selection.user is None:
        return True
    named = msgspec.json.decode(record.doc, type=_Named)
    return selection.user in (named.user, named.safety_identifier)


def _is_asked(record: Record, query: ListQuery) -> bool:
    metadata: Json = msgspec.json.decode(record.doc).get("metadata", {}) if query.metadata else {}
    return (
        query.model in (None, record.model)
        and query.status in (None, record.status)
        and query.metadata.items() <= metadata.items()
    )


def _bytes_of(record: Record) -> int:
    return len(record.doc) + _bytes((*record.input, *record.output))


def _bytes(items: Iterable[StoredItem]) -> int:
    return sum(len(item.doc) for item in items)

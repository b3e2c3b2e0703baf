"""Responses, items and conversations as tests of stores put them there."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.store import Conversation, Record, StoredItem
from antiphon.wire import Id, Json

PROJECT = "project_a"
STRANGER = "project_b"
NOW = 1_700_000_000


def an_item(id: Id) -> StoredItem:
    """An item whose document holds what tends to be lost: other scripts, escapes, NUL as JSON writes it."""
    return StoredItem(id, "message", f'{{"id":"{id}","text":"naïve 漢字 🙂 \\u0000 \\n"}}'.encode())


def a_record(
    id: Id,
    *,
    previous: Id | None = None,
    project: str = PROJECT,
    input: Sequence[Id] | None = None,
    output: Sequence[Id] | None = None,
    conversation: Id | None = None,
    created_at: int = NOW,
    status: str = "completed",
    model: str = "test-model",
    metadata: dict[str, str] | None = None,
    user: str | None = None,
    key_id: str | None = None,
) -> Record:
    """A response with one item in and one out, ``<id>_in`` and ``<id>_out``, unless told."""
    doc: Json = {"id": id, "output": [], "metadata": metadata or {}, "user": user}
    return Record(
        id=id,
        project=project,
        created_at=created_at,
        status=status,
        model=model,
        previous_response_id=previous,
        doc=msgspec.json.encode(doc),
        input=[an_item(each) for each in ([f"{id}_in"] if input is None else input)],
        output=[an_item(each) for each in ([f"{id}_out"] if output is None else output)],
        conversation_id=conversation,
        key_id=key_id,
    )


def a_conversation(
    id: Id, *, project: str = PROJECT, created_at: int = NOW, metadata: dict[str, str] | None = None
) -> Conversation:
    """A conversation without items."""
    return Conversation(id=id, project=project, created_at=created_at, used_at=created_at, metadata=metadata or {})

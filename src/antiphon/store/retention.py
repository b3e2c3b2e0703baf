"""What keeps a store within its bounds, and takes out of it what shall not be there."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from antiphon.store.conversations import Conversation
from antiphon.store.responses import Record
from antiphon.wire import Id


class Selection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which visible responses are meant: those for which all of it holds; all there are when nothing is said.

    A condition that is not known must never be passed over: more would go than was asked for.

    Attributes:
        before: created before that time, in Unix seconds.
        expired: kept for a time of their own that was over then, in Unix seconds.
        ended: True for those that do not run in the background any more.
        project: of that project.
        user: whose request named that ``user`` or ``safety_identifier``.
        key_id: made with that key.
    """

    before: int | None = None
    expired: int | None = None
    ended: Literal[True] | None = None
    project: str | None = None
    user: str | None = None
    key_id: str | None = None


class Purge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to go for ever.

    Attributes:
        selection: which responses.
        conversations: whether conversations go too: those last used before ``selection.before``; all where that is not
            said.
    """

    selection: Selection
    conversations: bool = False


class Purged(msgspec.Struct, frozen=True, kw_only=True):
    """What a purge did: how much went, and whether nothing of it is left in the store's files."""

    responses: int = 0
    conversations: int = 0
    scrubbed: bool = False

    @property
    def any(self) -> bool:
        """Whether something went."""
        return bool(self.responses or self.conversations)

    def __add__(self, later: Purged) -> Purged:
        """Both together."""
        responses, conversations = self.responses + later.responses, self.conversations + later.conversations
        return Purged(responses=responses, conversations=conversations, scrubbed=later.scrubbed)


class RetentionStore(Protocol):
    """Responses and conversations of all projects, and the room that they take. Nothing here needs a single process,
    but for ``shrink`` and ``scrub``, which are about files; a store without files of its own answers 0 and True.
    """

    async def purge(self, selection: Selection, limit: int) -> int:
        """Delete, as ``ResponseStore.delete`` does, up to ``limit`` of the selected responses, oldest first; says how
        many; 0 when there are none. One short transaction, behind a search that holds up no write.
        """
        ...

    async def read_records(self, *, after: Id | None, limit: int) -> list[Record]:
        """Visible responses, whole, in the order of their ids: the first ``limit`` behind ``after``."""
        ...

    async def find_idle(self, limit: int) -> list[Conversation]:
        """The ``limit`` visible conversations that have not been used for longest; those come first."""
        ...

    async def shrink(self, keep_bytes: int) -> int:
        """Give free space beyond ``keep_bytes`` back to the system, in one short step; says how many bytes. Call it
        until it says 0.
        """
        ...

    async def scrub(self) -> bool:
        """Leave nothing of what was deleted where the store's files can still be read for it. False when that could not
        be done now: somebody reads what was there before.
        """
        ...

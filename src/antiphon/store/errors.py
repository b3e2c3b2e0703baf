"""What a store refuses, and what it says then."""

from __future__ import annotations

from antiphon.wire import Id


class UnknownCursor(Exception):
    """``after`` names nothing in that list, and nothing that was deleted from it lately: paging goes on behind that."""


class DuplicateResponse(Exception):
    """A response of that id is kept already, visible or hidden; nothing was changed."""


class UnknownConversation(Exception):
    """There is no conversation of that id to add to; nothing was changed."""


class DuplicateItem(Exception):
    """The conversation has an item of that id already; nothing was changed. ``id`` is the first such id."""

    def __init__(self, id: Id) -> None:
        super().__init__(id)
        self.id = id


class ConversationLocked(Exception):
    """Somebody else writes to the conversation."""


class StillRunning(Exception):
    """The response runs in the background and has not ended, so that nothing can continue it yet."""


class ContextTooLarge(Exception):
    """The items of a context have more than ``store.responses.CONTEXT_BYTES_MAX`` bytes together."""


class StoreUnavailable(Exception):
    """The store cannot take the write, or cannot be read: disk full, read-only, corrupt, closed. The text
    says which.

    Attributes:
        reason: the same for callers of the API, without names of files; empty when there is nothing to say.
    """

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class Fenced(Exception):
    """The run is somebody else's now, cancelled or over; nothing was written."""


class QueueFull(Exception):
    """There is no room for one more; nothing was written. ``of_project``: the project's own share is full."""

    def __init__(self, *, of_project: bool) -> None:
        super().__init__("the project's share of the queue is full" if of_project else "the queue is full")
        self.of_project = of_project

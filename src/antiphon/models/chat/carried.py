"""What a server says beside a call, and wants back with it, rides in the call's id. Pure.

Gemini signs the thought that led to a call, and refuses a conversation in which the signature is missing; so do the
gateways in front of it, each with a member of its own. The id is the one thing of a call that every caller of every API
brings back, however it keeps its conversation.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from itertools import chain
from typing import Any, Final, cast

import msgspec

from antiphon.wire import Json
from antiphon.wire.values import CALL_ID_CHARS_MAX

_MARK: Final = "__with__"
_DEPTH_MAX: Final = 16


class Aside(msgspec.Struct, omit_defaults=True):
    """What is wanted back.

    Attributes:
        extra_content: with the call: of Google's own endpoints.
        reasoning_details: with the message around it: of OpenRouter.
    """

    extra_content: Json | None = None
    reasoning_details: list[Json] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.extra_content or self.reasoning_details)

    def __or__(self, other: Aside) -> Aside:
        return Aside(other.extra_content or self.extra_content, other.reasoning_details or self.reasoning_details)


STAND_IN: Final = Aside({"google": {"thought_signature": "skip_thought_signature_validator"}})
"""For calls of other models, or that this server made up.

Source: https://ai.google.dev/gemini-api/docs/thought-signatures
"""
_DECODE: Final = msgspec.json.Decoder(Aside).decode


def load(call_id: str, aside: Aside, made: str) -> str:
    """The id with ``aside`` in it; as it is where there is nothing to carry, or nobody could send it back.

    Args:
        made: an id for a call that has none.
    """
    if (not aside and _MARK not in call_id) or not _is_shallow(aside):
        return call_id
    try:
        packed = b64encode(msgspec.json.encode(aside)).decode()
    except UnicodeEncodeError:
        return call_id
    loaded = f"{call_id or made}{_MARK}{packed}"
    return loaded if len(loaded) <= CALL_ID_CHARS_MAX else call_id


def unload(call_id: str) -> tuple[str, Aside]:
    """The server's own id, and what came with it."""
    own, mark, packed = call_id.rpartition(_MARK)
    if mark:
        try:
            aside = _DECODE(b64decode(packed, validate=True))
        except (ValueError, RecursionError):
            return call_id, Aside()
        if _is_shallow(aside):
            return own, aside
    return call_id, Aside()


def _is_shallow(aside: Aside) -> bool:
    """Whether it is nested as little as what servers send; callers may send anything."""
    level: list[Any] = [aside.extra_content, aside.reasoning_details]
    for _ in range(_DEPTH_MAX):
        objects = [cast(Json, one).values() for one in level if isinstance(one, dict)]
        lists = [cast("list[Any]", one) for one in level if isinstance(one, list)]
        level = list(chain(*objects, *lists))
    return not level


def is_signature(detail: Any) -> bool:
    """Whether an entry of ``reasoning_details`` is one that only its server can read."""
    return isinstance(detail, dict) and cast(Json, detail).get("type") == "reasoning.encrypted"

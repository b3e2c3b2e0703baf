"""What a crash left open in a log: gone on with, run again, or closed.

What is done stands. A text is gone on with where the model can, as the same item; a call of a hosted tool is made
again where that does no harm, else the model is told that it was cut off. Everything else is closed as ``incomplete``,
is left out of the final output, and is sampled anew behind it, so that no passage is there twice.
"""

from __future__ import annotations

from antiphon.models import Finish, TextFormat, Usage
from antiphon.state import OpenItem, standing
from antiphon.tools import Offer
from antiphon.turn import Desk, close, run_all, take_turns
from antiphon.wire.errors import InvalidRequest
from antiphon.writer import Item

CUT_OFF = "The call was interrupted. It may have been done, or not."
"""What the model reads of a call that cannot be made again."""


async def go_on(desk: Desk) -> Finish:
    """Repair what is open, and take the turns that are still to come; see ``take_turns``."""
    said, prefix = await _repaired(desk)
    if prefix:
        # Said in an attempt that nobody has counted: about a token in each piece.
        desk.progress.used += Usage(output=desk.writer.state.pieces)
    if any(item["type"] == "function_call" for item in standing(desk.writer.state.output)):
        # What was sampled ended in a call of the caller's, beside those of ours that were at work.
        return Finish()
    seq = desk.writer.state.seq
    try:
        return await take_turns(desk, said, prefix)
    except InvalidRequest:
        # Some templates take no begun answer. Nothing has been said yet: the answer can still begin anew.
        if said is None or not prefix or desk.writer.state.seq != seq:
            raise
    said.done("incomplete")
    return await take_turns(desk)


async def _repaired(desk: Desk) -> tuple[Item | None, str]:
    """The open item to go on with, and its text."""
    said, prefix = None, ""
    again: list[tuple[Offer, Item, str]] = []
    for found in list(desk.writer.state.open.values()):
        item, offer, text = Item(desk.writer, found), _offer(desk, found), _continued(desk, found)
        if offer is not None and offer.tool.repeats(offer.function.name):
            again.append((offer, item, found.text.text if found.text else ""))
        elif offer is not None:
            close(item, offer.tool.failed(CUT_OFF))
        elif said is None and text is not None:
            said, prefix = item, text
        else:
            item.done("incomplete")
    await desk.log.flush()
    if again:
        await run_all(desk, again)
    return said, prefix


def _offer(desk: Desk, found: OpenItem) -> Offer | None:
    """The hosted tool behind an open call."""
    if "name" in found.doc:
        offer = desk.offers.get(found.doc["name"])
        return offer if offer is not None and offer.tool.item == found.kind.type else None
    return next((offer for offer in desk.offers.values() if offer.tool.item == found.kind.type), None)


def _continued(desk: Desk, found: OpenItem) -> str | None:
    """The text of a message that the model can go on with; empty for one that has none yet, None for any other item.

    An answer that is held to a schema has to begin anew: whoever holds it would have to be shown its beginning too.
    """
    if found.kind.type != "message":
        return None
    if not found.lists["content"]:
        return ""
    if len(found.lists["content"]) > 1 or not found.parts:
        return None
    (part,) = found.parts.values()
    prompt, text = desk.prompt, part.text.text
    free = prompt.format == TextFormat() and prompt.tool_choice.mode != "required"
    can = free and desk.model.continues and part.part.type == "output_text"
    return text if can or not text else None

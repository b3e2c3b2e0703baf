"""The calls of one sample: which of them are taken, and the items that they become.

A call is shown while it is written where its tool allows that and nothing half said may stay behind; every other call
is held until the model is finished, and is an item then, or is run here, or is no good and was never there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from antiphon.models import Call, ToolChoice, ToolMeasure
from antiphon.models.outcome import Outcome
from antiphon.tools import CallInvalid, ClientOffer, HostedOffer, ToolCall
from antiphon.tools.corrections import read_arguments, repair_call, undeclared
from antiphon.tools.invented import Transcript, drop_invented, find_invented, is_unspoken
from antiphon.tools.repeats import Made, find_repeat
from antiphon.tools.toolbox import Offers
from antiphon.wire import Json
from antiphon.wire.errors import UpstreamError

_UNSAID: Final = "nobody has said which '{}' is meant"


class CallRules(msgspec.Struct, frozen=True, kw_only=True):
    """What one sample may call, and what is done about calls that it may not make.

    Attributes:
        calls_max: how many calls are taken; others are left out.
        choice: which calls the request allows; ``must_call``: whether the sample has to make one.
        may_call: the functions of hosted tools that may be called, None for all; calls of others are left out.
        whole: whether a call becomes visible only when it is whole.
        repairs: whether the calls of functions are mended where they do not fit; then they have to be whole.
        asked: what the user said last.
        transcript: what has been said at all; None where calls may be about anything.
        finding: whether calls are to find out what another one needs, so that they have to be about what was said.
        just_made: calls that are left out, because their results are there, with what these say; then calls have to be
            whole too.
    """

    offers: Offers = Offers()
    calls_max: int | None = None
    choice: ToolChoice = ToolChoice()
    must_call: bool = False
    may_call: frozenset[str] | None = None
    whole: bool = False
    repairs: bool = False
    asked: str = ""
    transcript: Transcript | None = None
    finding: bool = False
    just_made: Mapping[Made, Outcome] = {}


class _Held(msgspec.Struct):
    """A call that is no item yet."""

    name: str
    call_id: str
    arguments: str = ""

    def to_tool_call(self) -> ToolCall:
        return ToolCall(self.name, self.arguments, self.call_id)


class _Barred(_Held):
    """A call that the request does not allow. It never becomes an item."""


class _Live(msgspec.Struct, frozen=True):
    """A call that is shown while it is written: its item has it."""


class SampledCalls:
    """The calls of one sample, by the model's own keys for them.

    Attributes:
        invalid: the calls that could not become items, and why; where there is one, no held call became one.
    """

    def __init__(self, rules: CallRules, ids: Callable[[str], str]) -> None:
        self.invalid: list[tuple[ToolCall, CallInvalid]] = []
        self._rules = rules
        self._ids = ids
        self._mended = self._has_invented = self._has_undeclared = False
        self._calls: dict[int, _Held | _Live | None] = {}

    def __bool__(self) -> bool:
        """Whether the model has begun to call anything, allowed or not."""
        return bool(self._calls)

    @property
    def taken(self) -> int:
        """How many calls the model has made that it may make."""
        return sum(call is not None and not isinstance(call, _Barred) for call in self._calls.values())

    @property
    def held(self) -> list[ToolCall]:
        """The calls that were held, in order."""
        return [call.to_tool_call() for call in self._calls.values() if type(call) is _Held]

    @property
    def barred(self) -> list[ToolCall]:
        """The calls that the request does not allow, in order."""
        return [call.to_tool_call() for call in self._calls.values() if isinstance(call, _Barred)]

    @property
    def hosted(self) -> list[tuple[HostedOffer, ToolCall]]:
        """The calls of hosted tools, in order; to be read once the model is finished."""
        found = [(self._rules.offers.find(call.name), call) for call in self.held]
        return [(offer, call) for offer, call in found if isinstance(offer, HostedOffer)]

    @property
    def helps(self) -> list[ToolMeasure]:
        """What was done so that the calls come right."""
        helps: dict[ToolMeasure, bool] = {
            "arguments_mended": self._mended,
            "disallowed": bool(self.barred),
            "undeclared": self._has_undeclared,
            "invented": self._has_invented,
        }
        return [measure for measure, taken in helps.items() if taken]

    def take(self, delta: Call) -> Json | None:
        """Take a piece of a call. Of one that is shown while it is written the first piece gives its item, whole but
        for its text; what comes of it then is for that item alone.

        Raises:
            UpstreamError: a call without a name.
        """
        if delta.key not in self._calls:
            call, doc = self._begin(delta)
            self._calls[delta.key] = call
            if doc is not None:
                return doc
        call = self._calls[delta.key]
        if isinstance(call, _Held):
            call.arguments += delta.arguments
        return None

    def _begin(self, delta: Call) -> tuple[_Held | _Live | None, Json | None]:
        """The call, and its item where that comes now. A call beyond what the request allows, or of a hosted tool that
        the model was not offered, is left out.
        """
        if not delta.name:
            raise UpstreamError("The model's server sent a function call without a name.", code="invalid_tool_call")
        rules, call_id = self._rules, delta.call_id or self._ids("call")
        if not rules.offers.is_allowed(delta.name, rules.choice):
            return _Barred(delta.name, call_id), None
        if rules.calls_max is not None and self.taken >= rules.calls_max:
            return None, None
        offer = rules.offers.find(delta.name)
        if isinstance(offer, HostedOffer) and rules.may_call is not None and delta.name not in rules.may_call:
            return None, None
        if rules.whole or not isinstance(offer, ClientOffer) or not offer.tool.live:
            return _Held(delta.name, call_id), None
        (doc,) = offer.tool.to_items(ToolCall(delta.name, "", call_id), offer.spec)
        return _Live(), doc

    def end(self, *, cut: bool, astray: bool) -> list[Json]:
        """The items of held calls that the caller answers, now that the model is finished; none if a call is no good.

        Args:
            cut: whether the answer was cut off; only a live tool can make an item of a call that was.
            astray: whether calls that the request does not allow are all that there is.
        """
        if not self._calls:
            return []
        self._leave_out_repeats()
        self._leave_out_invented()
        if astray:
            self.invalid += [(call, self._refuse(call.name)) for call in self.barred]
        found: list[Json] = []
        for call in self.held:
            offer = self._rules.offers.find(call.name)
            if not isinstance(offer, ClientOffer) or (cut and not offer.tool.live):
                continue
            try:
                found += self._items_of(call, offer)
            except CallInvalid as fault:
                self.invalid.append((call, fault))
        return [] if self.invalid else found

    def _leave_out_repeats(self) -> None:
        """Calls that were just made; where the model made no others, it is to answer from their results."""
        made = self._rules.just_made
        self._leave_out(
            {key: fault for key, call in self._held_by_key() if (fault := find_repeat(call.to_tool_call(), made))}
        )

    def _leave_out_invented(self) -> None:
        """Calls with addresses and numbers that nobody has said, and those of functions that there are not beside
        others; where the model made no others, it is asked again.
        """
        transcript, offers = self._rules.transcript, self._rules.offers
        if transcript is None or self._rules.must_call:
            return
        unknown = [key for key, call in self._held_by_key() if not offers.is_known(call.name)]
        if 0 < len(unknown) < len(self.held):
            self._calls |= dict.fromkeys(unknown)
            self._has_undeclared = True
        invented = {
            key: CallInvalid(_UNSAID.format(member), remedy="find")
            for key, call in self._held_by_key()
            if (member := self._find_invented(call, transcript)) is not None
        }
        self._has_invented = bool(invented)
        self._leave_out(invented)

    def _held_by_key(self) -> Iterator[tuple[int, _Held]]:
        return ((key, call) for key, call in self._calls.items() if type(call) is _Held)

    def _leave_out(self, faults: Mapping[int, CallInvalid]) -> None:
        """Leave calls out for what is wrong with them, which is told where there are no others."""
        wrong = [(call.to_tool_call(), faults[key]) for key, call in self._held_by_key() if key in faults]
        self._calls |= dict.fromkeys(faults)
        if not self.held:
            self.invalid += wrong

    def _find_invented(self, call: _Held, transcript: Transcript) -> str | None:
        """See ``find_invented``."""
        offers = self._rules.offers
        offer = offers.by_name.get(call.name)
        if not isinstance(offer, ClientOffer) or offer.tool is not offers.toolbox.functions:
            return None
        try:
            arguments = read_arguments(call.to_tool_call())
        except CallInvalid:
            return None
        schema = offer.function.parameters or {}
        if schema.get("required"):
            # They say what it is about, and what else was invented will be dropped, where the rest fits then.
            arguments = drop_invented(arguments, schema, transcript)
            with suppress(CallInvalid):
                mended = repair_call(call.to_tool_call(), offer.function, self._rules.asked, transcript)
                arguments = read_arguments(mended)
        does = f"{call.name} {offer.function.description or ''}"
        invented = find_invented(arguments, schema, transcript, does)
        is_stray = self._rules.finding and is_unspoken(arguments, schema, transcript)
        return next(iter(arguments)) if is_stray and invented is None else invented

    def _refuse(self, name: str) -> CallInvalid:
        """What is wrong with a call that the request does not allow."""
        rules = self._rules
        if rules.repairs and rules.choice.mode == "auto" and not rules.offers.is_known(name):
            return undeclared(name)
        return CallInvalid(self._reason(name))

    def _reason(self, name: str) -> str:
        """What the model is told of such a call."""
        rules = self._rules
        if rules.choice.mode == "none":
            return f"Error: {name} was not called: no tool can be called now. Answer in words."
        instead = "" if rules.must_call else ", or answer in words"
        return f"Error: {name} was not called: it cannot be now. Call {' or '.join(rules.choice.names)}{instead}."

    def _items_of(self, call: ToolCall, offer: ClientOffer) -> Sequence[Json]:
        """The items of one call. Each has a call id of its own, for the caller to answer it by.

        Raises:
            CallInvalid: there can be none, or more than calls are allowed.
        """
        first, *others = offer.tool.to_items(self._repair(call, offer), offer.spec)
        calls_max = self._rules.calls_max
        if others and calls_max is not None and self.taken + len(others) > calls_max:
            raise CallInvalid(f"Error: this makes {1 + len(others)} calls at once. Make them one after another.")
        return [first, *({**doc, "call_id": self._ids("call")} for doc in others)]

    def _repair(self, call: ToolCall, offer: ClientOffer) -> ToolCall:
        """The call of a function as it can be made; other tools look for themselves.

        Raises:
            CallInvalid: it cannot.
        """
        rules, offers = self._rules, self._rules.offers
        if not rules.repairs or offer.tool is not offers.toolbox.functions:
            return call
        repaired = repair_call(
            call, offer.function if call.name in offers.by_name else None, rules.asked, rules.transcript
        )
        self._mended = self._mended or repaired is not call
        return repaired

"""The tools of a server: who serves a tool of a request, and who a call of the model goes to.

This is the one place that decides which name a call goes to: a function of the caller's own goes before a tool of the
server's with the same name, and of two others the first counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from antiphon.files.citations import Sources
from antiphon.models import Function, ToolChoice
from antiphon.tools import ClientOffer, ClientTool, HostedOffer, HostedTool, Offer, SpecInvalid, Tool
from antiphon.tools.function import FunctionTool
from antiphon.tools.specs import count_grammar_chars, expand, qualified_name, usable
from antiphon.tools.tool_search import SEARCH, brought_by, brought_tools
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, InvalidRequest

GRAMMARS_CHARS_MAX: Final = 200_000
"""Of all grammars of a request; each is compiled before anything else is done."""
_PLAIN: Final = ("message", "reasoning")
"""Kinds that every model is shown as they are."""


class Toolbox:
    """All tools, by the kinds of tool and of item that they serve.

    Args:
        hosted: what this server runs for its models.
        client: what callers run. Functions are always there.
        others: what only reads items that are stored, or sent along.
    """

    def __init__(
        self, hosted: Sequence[HostedTool] = (), client: Sequence[ClientTool] = (), others: Sequence[Tool] = ()
    ) -> None:
        self.functions: ClientTool = FunctionTool()
        self._others = tuple(others)
        self._client = {kind: tool for tool in (self.functions, *client) for kind in tool.kinds}
        self._hosted = {kind: tool for tool in hosted for kind in tool.kinds}
        self._hosted_tools = tuple(dict.fromkeys(self._hosted.values()))
        tools: tuple[Tool, ...] = (*others, self.functions, *client, *hosted)
        self._owners: Mapping[str, Tool] = {kind: tool for tool in tools for kind in tool.items}

    def plus(self, tool: HostedTool) -> Toolbox:
        """These tools and one more."""
        client = list(dict.fromkeys(tool for tool in self._client.values() if tool is not self.functions))
        return Toolbox((*self._hosted_tools, tool), client, self._others)

    def serves(self, kind: str) -> bool:
        """Whether there is a tool of that type here."""
        return kind in self._client or kind in self._hosted or kind == "namespace"

    async def admit(self, project: str, spec: Json, place: int) -> Json:
        """What a tool of a request settles of itself, at that place of its ``tools``; see ``HostedTool.admit``.

        Raises:
            antiphon.wire.errors.ApiError: it cannot be run for that project.
        """
        return await self._admit(project, spec, f"tools[{place}]")

    async def admit_brought(self, project: str, items: Sequence[Json]) -> None:
        """See that the hosted tools that a request's own items bring along can be offered, and run for that project.

        Raises:
            antiphon.wire.errors.ApiError: one cannot.
        """
        for place, item in enumerate(items):
            for index, given in brought_by(item):
                for spec in usable([given]):
                    await self._admit(project, spec, f"input[{place}].tools[{index}]")

    async def _admit(self, project: str, spec: Json, path: str) -> Json:
        hosted = self._hosted.get(spec["type"])
        if hosted is None:
            return {}
        try:
            hosted.functions(spec)
            return await hosted.admit(project, spec)
        except SpecInvalid as fault:
            raise InvalidRequest(str(fault), code=fault.code, param=f"{path}.{fault.member}") from fault
        except ApiError as error:
            error.param = f"{path}.{error.param}" if error.param else path
            raise

    def _offer(self, spec: Json) -> Iterator[Offer]:
        """What the model may call of one tool, or of the tools of a namespace.

        Raises:
            SpecInvalid: it cannot be offered.
        """
        for place, each in expand(spec):
            try:
                yield from self._offer_one(each)
            except SpecInvalid as fault:
                raise SpecInvalid(str(fault), fault.code, f"{place}{fault.member}") from fault

    def _offer_one(self, spec: Json) -> Iterator[Offer]:
        kind = spec["type"]
        if (client := self._client.get(kind)) is not None:
            yield from (ClientOffer(client, spec, function) for function in client.functions(spec))
        elif (hosted := self._hosted.get(kind)) is not None:
            yield from (HostedOffer(hosted, spec, function) for function in hosted.functions(spec))

    def offers(self, specs: Sequence[Json], items: Iterable[Json] = ()) -> Offers:
        """What the model may call: of the tools of a request, and of those that items of its context brought along.

        Where the model can search for tools, those whose loading is deferred are offered once they were brought.

        Raises:
            InvalidRequest: a tool of the request that cannot be offered, or a function named twice.
        """
        if sum(map(count_grammar_chars, specs)) > GRAMMARS_CHARS_MAX:
            text = f"Invalid 'tools': their grammars may have at most {GRAMMARS_CHARS_MAX} characters in all."
            raise InvalidRequest(text, code="string_above_max_length", param="tools")
        brought = self._offer_brought(items)
        if not specs:
            return Offers(self, brought)
        own: dict[str, Offer] = {}
        served: dict[str, Offer] = {}
        for index, spec in enumerate(specs):
            for offer in self._check(spec, index):
                name = offer.function.name
                if offer.tool is not self.functions:
                    served.setdefault(name, offer)
                elif name in own:
                    raise _repeated_error(name, index, spec)
                else:
                    own[name] = offer
        found = {**own, **{name: offer for name, offer in served.items() if name not in own}}
        searchable = any(offer.spec["type"] == SEARCH for offer in found.values())
        deferred = {name: offer for name, offer in found.items() if searchable and offer.spec.get("defer_loading")}
        shown = {name: offer for name, offer in found.items() if name not in deferred}
        return Offers(self, shown | brought, deferred)

    def _offer_brought(self, items: Iterable[Json]) -> dict[str, Offer]:
        """The offers of tools that items brought; one that cannot be offered is passed over."""
        found: dict[str, Offer] = {}
        room = GRAMMARS_CHARS_MAX
        for spec in usable(brought_tools(items)):
            room -= count_grammar_chars(spec)
            if room < 0:
                break
            with suppress(SpecInvalid):
                found |= {offer.function.name: offer for offer in self._offer(spec)}
        return found

    def _check(self, spec: Json, index: int) -> Sequence[Offer]:
        try:
            return list(self._offer(spec))
        except SpecInvalid as fault:
            raise InvalidRequest(str(fault), code=fault.code, param=f"tools[{index}].{fault.member}") from fault

    async def recall(self, project: str, items: Sequence[Json], sources: Sources) -> Sequence[Json]:
        """The items, those of hosted tools ready to be lowered; see ``HostedTool.recall``."""
        found = list(items)
        for tool in self._hosted_tools if found else ():
            places = [place for place, item in enumerate(items) if self._owners.get(item["type"]) is tool]
            if places:
                recalled = await tool.recall(project, [items[place] for place in places], sources)
                for place, item in zip(places, recalled, strict=True):
                    found[place] = item
        return found

    def lower(self, items: Iterable[Json]) -> Iterator[Json]:
        """Items as ``models`` knows them. What no model can be shown is left out."""
        for item in items:
            if item["type"] in _PLAIN:
                yield item
            elif (owner := self._owners.get(item["type"])) is not None:
                yield from owner.lower(item)


class Offers(msgspec.Struct, frozen=True):
    """What the model may call in one response, by name.

    Attributes:
        deferred: what it may call once it has searched for it.
    """

    toolbox: Toolbox = Toolbox()
    by_name: Mapping[str, Offer] = {}
    deferred: Mapping[str, Offer] = {}

    def names(self, kinds: Collection[str], name: str | None = None) -> list[str]:
        """The functions of the tools of some types; where ``name`` is given, of the tool of that name alone."""
        return [
            each
            for each, offer in self.by_name.items()
            if offer.spec["type"] in kinds and name in (None, offer.spec.get("name"))
        ]

    @property
    def functions(self) -> tuple[Function, ...]:
        """What the model is shown."""
        return tuple(offer.function for offer in self.by_name.values())

    def find(self, name: str) -> Offer:
        """Who a call of that name goes to; one that was never offered is the caller's to answer."""
        found = self.by_name.get(name) or self._of_type(name) or self.deferred.get(name)
        return found or ClientOffer(self.toolbox.functions, {"type": "function"}, Function(name))

    def is_known(self, name: str) -> bool:
        """Whether a call of that name is one of something that was offered."""
        return name in self.by_name or self._of_type(name) is not None

    def is_allowed(self, name: str, choice: ToolChoice) -> bool:
        """Whether a request's choice leaves a call of that name; once it limits what may be called, it is a limit for
        what was never offered too.
        """
        if choice.mode == "none" or not choice.names:
            return choice.mode != "none"
        if name in self.by_name or (found := self._of_type(name)) is None:
            return name in choice.names
        return any(offer.spec is found.spec and each in choice.names for each, offer in self.by_name.items())

    def _of_type(self, name: str) -> ClientOffer | None:
        """The tool of a type of that name: models that were trained on it call it so, whatever they are shown."""
        for offer in self.by_name.values():
            if isinstance(offer, ClientOffer) and offer.spec["type"] == name and "name" not in offer.spec:
                return msgspec.structs.replace(offer, function=Function(name))
        return None

    def find_hosted(self, kind: str, name: str | None) -> HostedOffer | None:
        """The hosted tool behind an item of that kind, for a function of that name where the item tells it."""
        offers = [offer for offer in self.by_name.values() if isinstance(offer, HostedOffer)]
        found = [offer for offer in offers if kind in offer.tool.items and name in (None, offer.function.name)]
        return found[0] if found else None


def _repeated_error(name: str, index: int, spec: Json) -> InvalidRequest:
    *_, place = (place for place, each in expand(spec) if qualified_name(each) == name)
    param = f"tools[{index}].{place}name"
    text = f"Invalid '{param}': the function name '{name}' is already in use. Names of functions must be unique."
    return InvalidRequest(text, code="invalid_value", param=param)

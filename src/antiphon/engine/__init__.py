"""What the edge may ask for.

An ``Engine`` is the whole system without its edge. The HTTP server puts routes in front of it, the Python client calls
it in its own process. There are no globals: several engines live side by side.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import msgspec

from antiphon import context, intake
from antiphon.access import estimate
from antiphon.access.keyring import Admission, Keyring
from antiphon.background.queue import Background, Job
from antiphon.config import Config
from antiphon.engine.conversations import Conversations, unknown_cursor
from antiphon.engine.synthesis import synthesize
from antiphon.ids import RandomIds
from antiphon.intake import Plan
from antiphon.log import Reader, StaticReader
from antiphon.models import Model, Prompt, Roster
from antiphon.retention.purge import purge_step
from antiphon.run import InFlight, Run
from antiphon.store import (
    Page,
    Purge,
    Purged,
    Record,
    Slice,
    StillRunning,
    Store,
    StoreStats,
    UnknownCursor,
)
from antiphon.store.asking import asked
from antiphon.store.keys import Key, Spent
from antiphon.telemetry.meter import Meter, ResponseTimer
from antiphon.tools.toolbox import Offers, Toolbox
from antiphon.webhooks.dispatcher import WebhookDispatcher
from antiphon.webhooks.outbox import Outbox
from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest, NotFound, Unavailable
from antiphon.wire.items import nothing_asked
from antiphon.wire.listing import ListQuery
from antiphon.wire.response import Response, Status

Recall = Callable[[Id], Sequence[Json] | None]
"""The whole context up to and including a response, or None where it is not known."""


class Engine:
    """Accepts requests and answers for what is stored. Every method takes the ``owner`` it acts for, but ``purge``.

    Args:
        toolbox: the tools that its models may call.
        token: who can tell it may read the folder that everything is in, and do what its owner may; empty: nobody.
    """

    def __init__(
        self,
        config: Config,
        roster: Roster,
        store: Store,
        keyring: Keyring | None = None,
        *,
        clock: Callable[[], float] = time.time,
        ids: Callable[[str], str] | None = None,
        token: str = "",
        toolbox: Toolbox | None = None,
    ) -> None:
        self.config = config
        self.token = token
        self.roster = roster
        self.store = store
        self.meter = Meter()
        self.keyring = keyring or Keyring(store.keys, clock=clock)
        self._clock = clock
        self.ids = ids or RandomIds(clock)
        self.conversations = Conversations(store, self.ids, clock)
        outbox = Outbox(config.webhooks, self.ids, clock)
        self.background = Background(
            store,
            self._prepare,
            running_max=config.background_running_max,
            attempts_max=config.background_attempts_max,
            queued_max=config.background_queued_max,
            per_project_max=config.background_queued_per_project_max,
            clock=clock,
            outbox=outbox,
        )
        self.dispatcher = WebhookDispatcher(store.deliveries, outbox, self.meter, clock=clock, chance=random.random)
        self._toolbox = toolbox or Toolbox()
        self._in_flight = InFlight()
        self._closing = False
        self._defaults = intake.Defaults(strict=config.strict, toolbox=self._toolbox)
        self._response = msgspec.json.Decoder(Response)

    async def accept(
        self, body: Json, owner: str, key_id: str = "", *, recall: Recall | None = None, generate: bool = True
    ) -> Run:
        """Check a create request whole: parameters, the key's limits, model, and the context it builds on.

        Args:
            key_id: whose limits and whose usage it is; empty for requests without a key.
            recall: knows responses that are not stored, and is asked before the store.
            generate: False when the model shall not be asked: the response only prepares what continues it.

        Raises:
            ApiError: the request cannot be run; nothing has happened, but that it counts as one of the key's minute.

        A run in a conversation holds the claim on it.
        """
        if self._closing:
            raise _closing()
        timer = ResponseTimer(self.meter)
        now = int(self._clock())
        plan = intake.plan(body, defaults=self._defaults, ids=self.ids, now=now, generate=generate)
        admission = self.keyring.admit(key_id, lambda: _estimate_tokens(plan))
        model = await self.roster.find(plan.response.model)
        timer.model = model.name
        id = plan.conversation_id
        claim = None if id is None else await self.conversations.claim(owner, id)
        try:
            if context.references(plan.input):
                plan = await self._resolve(owner, plan)
            history = await self._history(owner, plan, recall)
            offers = self._offers(plan, history)
            prompt = self._prompt(plan, history, model, offers)
        except BaseException:
            if claim is not None:
                await claim.release()
            raise
        return self._run(plan, prompt, model, owner, timer, admission, offers=offers, history=history, claim=claim)

    def _run(
        self,
        plan: Plan,
        prompt: Prompt,
        model: Model,
        owner: str,
        timer: ResponseTimer,
        admission: Admission,
        **more: Any,
    ) -> Run:
        return Run(
            plan,
            prompt,
            model,
            owner,
            self.store,
            self._clock,
            self.ids,
            timer=timer,
            settle=partial(self.keyring.settle, admission),
            key_id=admission.key_id,
            reserved=admission.reserved,
            in_flight=self._in_flight,
            **more,
        )

    async def _prepare(self, owner: str, id: Id, job: Job) -> Run:
        """A queued response as a run, in the context that it was accepted in.

        Raises:
            ApiError: its model is not there, or cannot be shown the context any more.
        """
        timer = ResponseTimer(self.meter)
        model = await self.roster.find(job.plan.response.model)
        timer.model = model.name
        items = await self.store.context(owner, id)
        history = [msgspec.json.decode(item.doc) for item in items or ()]
        offers = self._offers(job.plan, history)
        prompt = self._prompt(job.plan, history, model, offers)
        return self._run(job.plan, prompt, model, owner, timer, Admission(job.key_id, job.reserved), offers=offers)

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more, and end what is under way within ``grace_s`` seconds: responses whose clients wait may
        come to their end, or fail with a word about it; those in the background are handed on.
        """
        self._closing = True
        await asyncio.gather(self.background.drain(grace_s), self._wait_for_clients(grace_s))

    async def _wait_for_clients(self, grace_s: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._in_flight.idle(), grace_s)
        self._in_flight.stop(_closing())

    def _offers(self, plan: Plan, history: Sequence[Json]) -> Offers:
        return self._toolbox.offers(plan.tools, (*history, *plan.input))

    def _prompt(self, plan: Plan, history: Sequence[Json], model: Model, offers: Offers) -> Prompt:
        if plan.generate and not history and not plan.input:
            raise nothing_asked()
        source = "previous_response_id" if plan.conversation_id is None else "conversation"
        note = self.config.unsupported_images == "note"
        return context.build(
            plan.prompt, history, offers, supports_images=model.supports_images, note_images=note, source=source
        )

    async def stats(self) -> StoreStats:
        """How large and how busy the store is."""
        return await asked(self.store.stats())

    async def _resolve(self, owner: str, plan: Plan) -> Plan:
        """The plan with stored items in place of references."""
        input = await self.conversations.whole(owner, plan.input, "input")
        prompt = msgspec.structs.replace(plan.prompt, items=input)
        return msgspec.structs.replace(plan, input=input, prompt=prompt)

    async def _history(self, owner: str, plan: Plan, recall: Recall | None) -> Sequence[Json]:
        if plan.conversation_id is not None:
            return await self.conversations.history(owner, plan.conversation_id)
        previous = plan.previous_response_id
        if previous is None:
            return ()
        recalled = recall(previous) if recall else None
        if recalled is not None:
            return recalled
        try:
            items = await asked(self.store.history(owner, previous))
        except StillRunning as error:
            text = f"Previous response with id '{previous}' has not ended yet. Wait until it has."
            raise InvalidRequest(text, code="previous_response_not_ended", param="previous_response_id") from error
        if items is None:
            raise InvalidRequest(
                f"Previous response with id '{previous}' not found.",
                code="previous_response_not_found",
                param="previous_response_id",
            )
        return [msgspec.json.decode(item.doc) for item in items]

    async def retrieve(self, owner: str, id: Id) -> Response:
        """A stored response as it ended, or as far as it has come.

        Raises:
            NotFound: there is none of that id.
        """
        return (await self.complete_items(owner, id))[0]

    async def complete_items(self, owner: str, id: Id) -> tuple[Response, int | None]:
        """The same, and the number of the last event in it where it has not ended, if that can be said.

        Raises:
            NotFound: there is none of that id.
        """
        record = await asked(self.store.get(owner, id))
        if record is None:
            raise _missing(id)
        response = self._whole(record)
        # The document of a response in the background is written again when it has ended.
        if response.status == "queued":
            return await self.background.so_far(record) or (response, None)
        return response, None

    async def follow(self, owner: str, id: Id, after: int) -> Reader:
        """The stream of a response behind event number ``after``: kept while it ran in the background, else told again
        from its items.

        Raises:
            NotFound: there is none of that id.
            InvalidRequest: there is no event of that number.
        """
        log = await asked(self.store.events(owner, id, after=-1, bytes_max=1))
        if log is None:
            raise _missing(id)
        lines = synthesize(await self.retrieve(owner, id)) if log.last < 0 else []
        last = log.last if log.last >= 0 else len(lines) - 1
        if after > last:
            text = f"Invalid 'starting_after': the last event so far is number {last}, but got {after}."
            raise InvalidRequest(text, code="invalid_value", param="starting_after")
        return StaticReader(lines[after + 1 :]) if lines else self.background.tail(owner, id, after)

    async def cancel(self, owner: str, id: Id) -> Response:
        """Cancel a response that runs in the background; one that has ended is returned as it is.

        Raises:
            NotFound: there is none of that id.
            InvalidRequest: it does not run in the background.
        """
        await self.background.cancel(owner, id)
        response = await self.retrieve(owner, id)
        if not response.background:
            raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id")
        return response

    async def responses(self, owner: str, query: ListQuery) -> Slice[Response]:
        """A page of the stored responses.

        Raises:
            InvalidRequest: ``after`` is none of them.
        """
        try:
            page = await asked(self.store.responses(owner, query))
        except UnknownCursor as error:
            raise unknown_cursor(query, "Response") from error
        found = [self._whole(record) for record in page.found]
        for response, record in zip(found, page.found, strict=True):
            response.status = msgspec.convert(record.status, Status)
        return Slice(found, page.has_more)

    def _whole(self, record: Record) -> Response:
        response = self._response.decode(record.doc)
        response.output = [msgspec.json.decode(item.doc) for item in record.output]
        return response

    async def input_items(
        self, owner: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page:
        """A page of the input items of a stored response.

        Raises:
            NotFound: there is no such response.
            InvalidRequest: ``after`` is not one of its items.
        """
        try:
            page = await asked(self.store.items(owner, id, after=after, limit=limit, order=order))
        except UnknownCursor as error:
            raise InvalidRequest(f"Item with id '{after}' not found in this list.", param="after") from error
        if page is None:
            raise _missing(id)
        return page

    async def delete(self, owner: str, id: Id) -> None:
        """Delete a stored response; those that continue it keep working.

        Raises:
            NotFound: there is none of that id.
        """
        if not await self.background.delete(owner, id):
            raise _missing(id)

    async def purge(self, purge: Purge) -> Purged:
        """Delete some of what is meant, of all owners; see ``purge_step``."""
        step = await asked(purge_step(self.store, purge))
        if step.responses:
            await self.background.recheck()
        return step

    async def usage(self, owner: str, first_day: str, last_day: str) -> list[tuple[Spent, Key | None]]:
        """What the owner's keys used per UTC day, both days included; the newest first. None: without a key."""
        return await asked(self.keyring.usage(owner, first_day, last_day))


def _closing() -> Unavailable:
    return Unavailable("The server is shutting down. Try again in a moment.", headers={"retry-after": "1"})


def _estimate_tokens(plan: intake.Plan) -> int:
    """About how many tokens a response may take: what it is asked, and all that it may answer."""
    return estimate.prompt_tokens(plan.prompt) + (plan.prompt.max_output_tokens or 0)


def _missing(id: Id) -> NotFound:
    return NotFound(f"Response with id '{id}' not found.")

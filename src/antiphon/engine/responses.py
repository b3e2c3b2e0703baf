"""Responses: what the endpoints of ``/v1/responses`` do, over HTTP and over WebSockets.

``respond`` is the one way in for a request. Whether it runs in the background, whether it is streamed, and what a
connection remembers of it, is decided here; the edge only says where the answer goes (``Sink``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Protocol

import msgspec

from antiphon import context, intake
from antiphon.access.account import Account
from antiphon.access.keyring import Caller, Keyring
from antiphon.access.pricing import price_of
from antiphon.access.sealing import Sealer
from antiphon.background.queue import Background, Job
from antiphon.config import Config
from antiphon.engine.conversations import Conversations, unknown_cursor
from antiphon.engine.file_inputs import FileInputs
from antiphon.engine.memory import LaneMemory
from antiphon.engine.reads import Reads
from antiphon.engine.synthesis import synthesize, take_snapshot
from antiphon.files.citations import Sources
from antiphon.intake import Extra, Plan
from antiphon.log import Log, NullLog, Reader, StaticReader, decode_event, read_log
from antiphon.models import Model, Prompt, Roster
from antiphon.models.tokens import estimate_prompt
from antiphon.run import Failed, InFlight, Run, respond
from antiphon.store import Page, Record, Slice, StillRunning, Store, UnknownCursor
from antiphon.store.availability import ask_store
from antiphon.telemetry.meter import Meter, ResponseTimer
from antiphon.tools.computer import situate
from antiphon.tools.toolbox import Offers, Toolbox
from antiphon.webhooks.outbox import Outbox
from antiphon.wire import Id, Json
from antiphon.wire.errors import ApiError, InvalidRequest, NotFound, Unavailable
from antiphon.wire.items import empty_input_error
from antiphon.wire.queries import ListQuery
from antiphon.wire.response import Response, Status


class Sink(Protocol):
    """Where the answer to a request goes. One of ``send``, ``stream`` and ``follow`` is asked for."""

    def accept(self, run: Run) -> None:
        """The request was accepted; nothing has been sent yet."""
        ...

    async def send(self, response: Response) -> None:
        """Answer with the response as it is."""
        ...

    def stream(self) -> Log:
        """A log that the caller reads while the response is made."""
        ...

    async def end(self, error: ApiError | None) -> None:
        """The stream has come to its end; with an error where the response failed.

        Raises:
            ApiError: the caller has seen nothing yet, and is told in a plain answer.
        """
        ...

    async def follow(self, reader: Reader) -> None:
        """Show a log that is kept, to its end."""
        ...


class Preview(msgspec.Struct, frozen=True):
    """What a request would ask first, of which model and on whose account.

    Attributes:
        truncate: whether a prompt that is too long may be shortened.
        note_images: whether a model that refuses images would be told of them in words instead.
        ignored: what of the request would be ignored.
    """

    model: Model
    prompt: Prompt
    account: Account
    truncate: bool
    note_images: bool
    ignored: tuple[str, ...]


class Responses:
    """The responses of one engine. Every method takes the ``project`` it acts for."""

    def __init__(
        self,
        config: Config,
        roster: Roster,
        store: Store,
        conversations: Conversations,
        keyring: Keyring,
        meter: Meter,
        outbox: Outbox,
        *,
        clock: Callable[[], float],
        ids: Callable[[str], str],
        toolbox: Toolbox,
        sealer: Sealer,
        file_inputs: FileInputs,
        reads: Reads,
    ) -> None:
        self._config = config
        self._roster = roster
        self._store = store
        self._conversations = conversations
        self._keyring = keyring
        self._meter = meter
        self._clock = clock
        self._ids = ids
        self._toolbox = toolbox
        self._sealer = sealer
        self._file_inputs = file_inputs
        self._reads = reads
        self._note_images = config.unsupported_images == "note"
        self._in_flight = InFlight()
        self._closing = False
        self._defaults = intake.Defaults(strict=config.strict, toolbox=toolbox)
        self._decoder = msgspec.json.Decoder(Response)
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

    # A request

    async def respond(
        self,
        body: Any,
        caller: Caller,
        sink: Sink,
        *,
        memory: LaneMemory | None = None,
        generate: bool = True,
        extra: Extra | None = None,
    ) -> None:
        """Answer a create request.

        Args:
            body: its JSON.
            memory: knows responses that are not stored, is asked before the store, and remembers this one.
            generate: False when the model shall not be asked: the response only prepares what continues it.
            extra: see ``intake.plan``.

        Raises:
            ApiError: the request cannot be run, or its response failed before anything of it was sent.
        """
        try:
            run = await self.accept(body, caller, memory=memory, generate=generate, extra=extra)
            sink.accept(run)
            if run.plan.background:
                await self._queue(run, sink)
            else:
                await self._run(run, sink, memory)
        except Exception:
            if memory is not None:
                memory.forget(body.get("previous_response_id"))
            raise

    async def _queue(self, run: Run, sink: Sink) -> None:
        response = await self.background.submit(run)
        if run.plan.stream:
            await sink.follow(await self.follow(run.project, response.id, -1))
        else:
            await sink.send(response)

    async def _run(self, run: Run, sink: Sink, memory: LaneMemory | None) -> None:
        if not run.plan.stream:
            try:
                response = await respond(run, NullLog())
            except Failed as failed:
                raise failed.error from failed
            return await sink.send(response)
        log = sink.stream()
        try:
            await respond(run, log if memory is None else memory.remember(run, log))
        except Failed as failed:
            if memory is not None:
                memory.forget(run.plan.previous_response_id)
            return await sink.end(failed.error)
        return await sink.end(None)

    async def accept(
        self,
        body: Json,
        caller: Caller,
        *,
        memory: LaneMemory | None = None,
        generate: bool = True,
        extra: Extra | None = None,
    ) -> Run:
        """Check a create request whole: parameters, the key's limits, model, and the context it builds on.

        Raises:
            ApiError: the request cannot be run; nothing has happened, but that it counts as one of the key's minute.

        A run in a conversation holds the lock on it.
        """
        if self._closing:
            raise _closing()
        timer = ResponseTimer(self._meter)
        now = int(self._clock())
        plan = intake.plan(body, defaults=self._defaults, ids=self._ids, now=now, generate=generate, extra=extra)
        account = Account.open(self._keyring, caller.key_id, lambda: _estimate_tokens(plan))
        model = await self._roster.find(plan.response.model)
        timer.model = model.name
        plan = plan.offer_extra(model.accepts)
        project, id = caller.project, plan.conversation_id
        lock = None if id is None else await self._conversations.lock(project, id)
        try:
            if context.references(plan.input):
                plan = plan.with_input(await self._conversations.resolve_references(project, plan.input, "input"))
            history = await self._history(project, plan, memory)
            plan = await self._admit_tools(project, plan)
            offers, prompt, sources = await self._build_prompt(project, plan, history, model)
        except BaseException:
            if lock is not None:
                await lock.release()
            raise
        run = self._run_of(plan, prompt, offers, model, project, timer, account)
        return msgspec.structs.replace(run, history=history, lock=lock, sources=sources)

    async def preview(self, body: Json, caller: Caller) -> Preview:
        """What a create request would ask first. It counts as one of the key's minute.

        Raises:
            ApiError: it would be refused.
        """
        plan = intake.plan(body, defaults=self._defaults, ids=self._ids, now=int(self._clock()))
        account = Account.open(self._keyring, caller.key_id, lambda: 0)
        model = await self._roster.find(plan.response.model)
        plan = plan.offer_extra(model.accepts)
        if context.references(plan.input):
            plan = plan.with_input(await self._conversations.resolve_references(caller.project, plan.input, "input"))
        history = await self._history(caller.project, plan, None)
        plan = await self._admit_tools(caller.project, plan)
        _, prompt, _ = await self._build_prompt(caller.project, plan, history, model)
        price = price_of(self._config.prices, plan.response.model, model.name)
        return Preview(
            model,
            prompt,
            msgspec.structs.replace(account, price=price, model=plan.response.model),
            truncate=plan.response.truncation == "auto",
            note_images=self._note_images,
            ignored=plan.ignored,
        )

    async def _admit_tools(self, project: str, plan: Plan) -> Plan:
        await self._toolbox.admit_brought(project, plan.input)
        if not plan.tools:
            return plan
        served = (place for place, tool in enumerate(plan.response.tools) if self._toolbox.serves(tool["type"]))
        places = zip(served, plan.tools, strict=True)
        return plan.settle_tools({place: await self._toolbox.admit(project, tool, place) for place, tool in places})

    def _run_of(
        self,
        plan: Plan,
        prompt: Prompt,
        offers: Offers,
        model: Model,
        project: str,
        timer: ResponseTimer,
        account: Account,
    ) -> Run:
        price = price_of(self._config.prices, plan.response.model, model.name)
        return Run(
            plan,
            prompt,
            model,
            project,
            self._store,
            self._clock,
            self._ids,
            timer=timer,
            account=msgspec.structs.replace(
                account, price=price, response_id=plan.response.id, model=plan.response.model
            ),
            offers=offers,
            in_flight=self._in_flight,
            heartbeat_s=self._config.heartbeat_s,
            citations=self._config.citations,
            note_images=self._note_images,
            sealer=self._sealer,
        )

    async def _prepare(self, project: str, id: Id, job: Job) -> Run:
        """A queued response as a run, in the context that it was accepted in.

        Raises:
            ApiError: its model is not there, or cannot be shown the context any more.
        """
        timer = ResponseTimer(self._meter)
        model = await self._roster.find(job.plan.response.model)
        timer.model = model.name
        items = await self._store.items.load_context(project, id)
        history = [msgspec.json.decode(item.doc) for item in items or ()]
        offers, prompt, sources = await self._build_prompt(project, job.plan, history, model)
        account = Account(self._keyring, job.admission)
        run = self._run_of(job.plan, prompt, offers, model, project, timer, account)
        return msgspec.structs.replace(run, sources=sources)

    async def _build_prompt(
        self, project: str, plan: Plan, history: Sequence[Json], model: Model
    ) -> tuple[Offers, Prompt, Sources]:
        items = (*history, *plan.input)
        offers = self._toolbox.offers(situate(plan.tools, items, plan.prompt.instructions), items)
        history, own = await self._file_inputs.shown(project, history, plan.prompt.items)
        sources = Sources()
        history = await self._toolbox.recall(project, history, sources)
        own = await self._toolbox.recall(project, own, sources)
        prompt = context.build(
            msgspec.structs.replace(plan.prompt, items=tuple(own), cache_key=_cache_key(project, plan)),
            history,
            offers,
            supports_images=model.supports_images,
            note_images=self._note_images,
            source="previous_response_id" if plan.conversation_id is None else "conversation",
            unseal=partial(self._sealer.open, project=project),
        )
        if plan.generate and not prompt.items:
            raise empty_input_error()
        return offers, prompt, sources

    async def _history(self, project: str, plan: Plan, memory: LaneMemory | None) -> Sequence[Json]:
        if plan.conversation_id is not None:
            return await self._conversations.history(project, plan.conversation_id)
        previous = plan.previous_response_id
        if previous is None:
            return ()
        recalled = memory.recall(previous) if memory else None
        return await self._load_history(project, previous) if recalled is None else recalled

    async def _load_history(self, project: str, previous: Id) -> Sequence[Json]:
        param = "previous_response_id"
        try:
            items = await self._reads.context(lambda: self._store.items.load_history(project, previous), param)
        except StillRunning as error:
            text = f"Previous response with id '{previous}' has not ended yet. Wait until it has."
            raise InvalidRequest(text, code="previous_response_not_ended", param=param) from error
        if items is None:
            text = f"Previous response with id '{previous}' not found."
            raise InvalidRequest(text, code="previous_response_not_found", param=param)
        return items

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more, and end what is under way within ``grace_s`` seconds: responses whose clients wait may
        come to their end, or fail with a word about it; those in the background are handed over.
        """
        self._closing = True
        await asyncio.gather(self.background.drain(grace_s), self._wait_for_clients(grace_s))

    async def _wait_for_clients(self, grace_s: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._in_flight.idle()
        self._in_flight.stop(_closing())

    # What is stored

    async def retrieve(self, project: str, id: Id) -> Response:
        """A stored response as it ended, or as far as it has come.

        Raises:
            NotFound: there is none of that id.
        """
        return (await self.retrieve_with_cursor(project, id))[0]

    async def retrieve_with_cursor(self, project: str, id: Id) -> tuple[Response, int | None]:
        """The same, and the number of the last event in it where it has not ended, if that can be said.

        Raises:
            NotFound: there is none of that id.
        """
        record = await self._reads.record(lambda: self._store.responses.get(project, id))
        if record is None:
            raise _missing(id)
        response = self._decode(record)
        # The document of a response in the background is written again when it has ended.
        if response.status == "queued":
            return await self.background.read_progress(record) or (response, None)
        return response, None

    def include_sealed(self, response: Response, project: str) -> Response:
        """The response with its reasoning as its caller may carry it, also where it was not asked for at first."""
        output = [self._add_sealed(item, project) if item["type"] == "reasoning" else item for item in response.output]
        return msgspec.structs.replace(response, output=output)

    def _add_sealed(self, item: Json, project: str) -> Json:
        if item.get("encrypted_content") or item.get("status") != "completed":
            return item
        return {**item, "encrypted_content": self._sealer.seal(context.sealed_reasoning(item), project, "reasoning")}

    async def follow(self, project: str, id: Id, after: int, *, snapshot: bool = False) -> Reader:
        """The stream of a response behind event number ``after``: kept while it ran in the background, else
        synthesized from its items. With ``snapshot`` it begins with what stands for the events up to that number.

        Raises:
            NotFound: there is none of that id.
            InvalidRequest: there is no event of that number.
        """
        log = await ask_store(self._store.runs.read_events(project, id, after=-1, bytes_max=1))
        if log is None:
            raise _missing(id)
        lines = synthesize(await self.retrieve(project, id)) if log.last < 0 else []
        last = log.last if log.last >= 0 else len(lines) - 1
        if after > last:
            text = f"Invalid 'starting_after': the last event so far is number {last}, but got {after}."
            raise InvalidRequest(text, code="invalid_value", param="starting_after")
        first: Sequence[bytes] = ()
        if snapshot and after >= 0:
            events = [decode_event(line) for line in lines] or await ask_store(read_log(self._store.runs, project, id))
            first = take_snapshot(events[: after + 1]) if events else ()
        return StaticReader([*first, *lines[after + 1 :]]) if lines else self.background.tail(project, id, after, first)

    async def cancel(self, project: str, id: Id) -> Response:
        """Cancel a response that runs in the background; one that has ended is returned as it is.

        Raises:
            NotFound: there is none of that id.
            InvalidRequest: it does not run in the background.
        """
        await self.background.cancel(project, id)
        response = await self.retrieve(project, id)
        if not response.background:
            raise InvalidRequest("Cannot cancel a synchronous response.", param="response_id")
        return response

    async def list(self, project: str, query: ListQuery) -> Slice[Response]:
        """A page of the stored responses.

        Raises:
            InvalidRequest: ``after`` is none of them.
        """
        try:
            page = await self._reads.records(lambda: self._store.responses.read_page(project, query))
        except UnknownCursor as error:
            raise unknown_cursor(query, "Response") from error
        found = [self._decode(record) for record in page.found]
        for response, record in zip(found, page.found, strict=True):
            response.status = msgspec.convert(record.status, Status)
        return Slice(found, page.has_more)

    def _decode(self, record: Record) -> Response:
        response = self._decoder.decode(record.doc)
        response.output = [msgspec.json.decode(item.doc) for item in record.output]
        return response

    async def input_items(
        self, project: str, id: Id, *, after: Id | None, limit: int, order: Literal["asc", "desc"]
    ) -> Page:
        """A page of the input items of a stored response.

        Raises:
            NotFound: there is no such response.
            InvalidRequest: ``after`` is not one of its items.
        """
        try:
            page = await self._reads.page(
                lambda: self._store.items.read_input(project, id, after=after, limit=limit, order=order)
            )
        except UnknownCursor as error:
            raise InvalidRequest(f"Item with id '{after}' not found in this list.", param="after") from error
        if page is None:
            raise _missing(id)
        return page

    async def delete(self, project: str, id: Id) -> None:
        """Delete a stored response; those that continue it keep working.

        Raises:
            NotFound: there is none of that id.
        """
        if not await self.background.delete(project, id):
            raise _missing(id)


def _closing() -> Unavailable:
    return Unavailable("The server is shutting down. Try again in a moment.", headers={"retry-after": "1"})


def _cache_key(project: str, plan: Plan) -> str:
    """What is the same in all requests of one context, where the caller says so. Chains tell by how they begin."""
    key = plan.response.prompt_cache_key or plan.conversation_id
    return f"{project}\0{key}" if key else ""


def _estimate_tokens(plan: Plan) -> int:
    """About how many tokens a response may take: what it is asked, and all that it may answer."""
    return estimate_prompt(plan.prompt) + (plan.prompt.max_output_tokens or 0)


def _missing(id: Id) -> NotFound:
    return NotFound(f"Response with id '{id}' not found.")

"""Contexts: counted before anything is asked, and compacted.

A context is what a create request would build: both bodies become one, so that what is counted is what is sampled, and
a compaction is a response whose last input item is a ``compaction_trigger``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import msgspec

from antiphon.access.keyring import Caller
from antiphon.access.sealing import Sealer
from antiphon.compaction import Compaction
from antiphon.context import replace_images
from antiphon.engine.responses import Preview, Responses, Sink
from antiphon.log import Log, Reader
from antiphon.models import PROBED, ContextTooLong, ImagesRefused, Model, Prompt, Roster, Usage
from antiphon.models.probing import probe
from antiphon.run import Run
from antiphon.truncation import ask_shortened
from antiphon.wire import Json
from antiphon.wire.contexts import CompactedResponse, CountRequest, InputTokens
from antiphon.wire.errors import ApiError, InvalidRequest
from antiphon.wire.response import InputDetails, OutputDetails, Response, UsageTotal
from antiphon.wire.validation import check, missing

_TRIGGER: Json = {"type": "compaction_trigger"}
_ALONE = ("stream", "stream_options", "background", "conversation", "context_management")
"""What a compaction has no use for: it is neither stored nor streamed."""

_NO_CONVERSATION = (
    "Unsupported parameter: 'conversation'. A conversation is compacted by a response in it whose input ends with an "
    "item of type 'compaction_trigger'."
)


class Counted(msgspec.Struct, frozen=True):
    """A context's tokens for the model of that name, whether they are only estimated, and what would be ignored."""

    answer: InputTokens
    model: str
    estimated: bool
    ignored: tuple[str, ...]


class Contexts:
    """The contexts of one engine's responses."""

    def __init__(self, responses: Responses, roster: Roster, sealer: Sealer) -> None:
        self._responses = responses
        self._roster = roster
        self._sealer = sealer

    async def count(self, body: Any, caller: Caller) -> Counted:
        """The tokens of the context that a create request of that body would show the model.

        Raises:
            ApiError: such a request would be refused, or its model cannot count.
        """
        create = {name: value for name, value in _object(body).items() if name != "personality"}
        check({"personality": body.get("personality")}, CountRequest, strict=False)
        if create.get("model") is None:
            create["model"] = await self._first_model()
        preview = await self._responses.preview(create, caller)
        with preview.account.settling(lambda _: (Usage(), False)) as bill:
            try:
                tokens = await _count_shown(preview)
            finally:
                # Most models count without being asked for an answer.
                bill.due = bool(bill.probed)
        model = preview.model
        return Counted(InputTokens(input_tokens=tokens), model.name, model.estimates_tokens, preview.ignored)

    async def _first_model(self) -> str:
        names = await self._roster.names()
        if not names:
            raise missing(("model",)).error()
        return names[0]

    async def compact(self, body: Any, caller: Caller, sink: Sink) -> CompactedResponse:
        """The context of that body, compacted. Nothing is stored.

        Args:
            sink: told that the request was accepted, and nothing else.

        Raises:
            ApiError: there is no such context, or the model failed; everything is as it was.
        """
        given = _object(body)
        if given.get("conversation") is not None:
            raise InvalidRequest(_NO_CONVERSATION, code="unsupported_parameter", param="conversation")
        create: Json = {name: value for name, value in given.items() if name not in _ALONE}
        create |= {"input": [*_items(given.get("input")), _TRIGGER], "store": False}
        kept = _CapturingSink(sink)
        await self._responses.respond(create, caller, kept)
        return self._answer(kept.run, kept.response)

    def _answer(self, run: Run, response: Response) -> CompactedResponse:
        item = response.output[-1]
        opened = self._sealer.open(item["encrypted_content"], run.project, "compaction")
        made = msgspec.convert(opened, Compaction)
        # As they came: what is sealed holds what the model reads of them.
        given = {item["id"]: item for item in (*run.history, *run.plan.input)}
        return CompactedResponse(
            id=response.id,
            created_at=response.created_at,
            output=[*(given.get(each.get("id"), each) for each in made.messages if each["role"] == "user"), item],
            usage=response.usage or _estimate_usage(made),
            original_token_count=made.original_tokens,
            token_count=made.tokens,
            reduction_percentage=made.reduction_percentage,
            counts_estimated=made.estimated or msgspec.UNSET,
        )


async def _count_shown(preview: Preview) -> int:
    """Tokens of what the model would be shown in the end, with a note where it refuses images, if that is wanted."""
    count = partial(_count_shortened if preview.truncate else _count, preview.model)
    try:
        return await count(preview.prompt)
    except ImagesRefused:
        if not preview.note_images:
            raise
    return await count(msgspec.structs.replace(preview.prompt, items=tuple(replace_images(preview.prompt.items))))


async def _count_shortened(model: Model, prompt: Prompt) -> int:
    return await ask_shortened(prompt, partial(_count_fitting, model), lambda: True)


async def _count_fitting(model: Model, prompt: Prompt) -> int:
    """Tokens of a prompt that fits.

    Raises:
        ContextTooLong: it does not. Where the window is not known, the model's server is asked.
    """
    probes = len(PROBED.get() or ())
    tokens, window = await model.count(prompt), model.context_tokens
    if window is not None and tokens > window:
        raise ContextTooLong(tokens, window)
    was_asked = len(PROBED.get() or ()) > probes
    if window is None and not was_asked and not model.estimates_tokens:
        await probe(model, prompt)
    return tokens


async def _count(model: Model, prompt: Prompt) -> int:
    try:
        return await model.count(prompt)
    except ContextTooLong as error:
        if error.prompt_tokens is None:
            text = "The context exceeds the window of this model, whose server counts only what fits."
            raise InvalidRequest(text, code="context_length_exceeded", param="input") from error
        return error.prompt_tokens


class _CapturingSink:
    """A sink that keeps the response for another answer."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._run: Run | None = None
        self._response: Response | None = None

    @property
    def run(self) -> Run:
        """The request, once it was accepted."""
        assert self._run is not None
        return self._run

    @property
    def response(self) -> Response:
        """The response, once it was sent."""
        assert self._response is not None
        return self._response

    def accept(self, run: Run) -> None:
        """Passed on, and kept."""
        self._run = run
        self._sink.accept(run)

    async def send(self, response: Response) -> None:
        """Kept."""
        self._response = response

    def stream(self) -> Log:
        """Never asked for: the request is not streamed."""
        raise AssertionError("a compaction is not streamed")

    async def end(self, error: ApiError | None) -> None:
        """Never asked for."""
        raise AssertionError("a compaction is not streamed")

    async def follow(self, reader: Reader) -> None:
        """Never asked for."""
        raise AssertionError("a compaction does not run in the background")


def _object(body: Any) -> Json:
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid body: expected a JSON object.", code="invalid_type")
    return cast(Json, body)


def _items(input: Any) -> Sequence[Any]:
    match input:
        case None | "":
            return ()
        case str():
            return ({"role": "user", "content": input},)
        case list():
            return cast("list[Any]", input)
        case _:
            # Refused where all inputs are read.
            return (input,)


def _estimate_usage(made: Compaction) -> UsageTotal:
    read, wrote = made.original_tokens, made.tokens
    return UsageTotal(read, InputDetails(0), wrote, OutputDetails(0), read + wrote)

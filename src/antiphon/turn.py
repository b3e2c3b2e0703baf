"""The turns of one response: sample, run the hosted tools that the model called, and sample again; bounded.

A prompt that is too long is shortened and tried again where the request allows it (``truncation: auto``), and one that
becomes long is compacted where the request asks for that (``context_management``). Nothing else is tried twice once a
reader may have seen a part of it. Before a tool runs, its call is durable (``Log.flush``); what has come of it is
durable before the model is asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from antiphon import compaction
from antiphon.assembler import Assembler
from antiphon.context import Unseal, apply_compaction, replace_images
from antiphon.files.citations import Mode, Sources
from antiphon.log import Log
from antiphon.models import ContextTooLong, Finish, ImagesRefused, Model, Prompt, ToolChoice, Usage
from antiphon.models.answers import check_answer, is_bound
from antiphon.models.tokens import BYTES_PER_TOKEN, bound_prompt, estimate_prompt
from antiphon.state import complete_items
from antiphon.telemetry.meter import ResponseTimer
from antiphon.tools import ClientOffer, HostedOffer, Scope, ToolCall
from antiphon.tools.corrections import Corrections
from antiphon.tools.hosted import ToolActivity, open_calls, run_calls
from antiphon.tools.invented import Transcript
from antiphon.tools.repeats import calls_just_made
from antiphon.tools.sampled import CallRules
from antiphon.tools.toolbox import Offers
from antiphon.truncation import ask_shortened
from antiphon.wire import Json
from antiphon.wire.errors import ApiError, UpstreamError
from antiphon.wire.items import last_user_text
from antiphon.wire.kinds import is_call
from antiphon.writer import Item, Writer

compaction_log = logging.getLogger("antiphon.compaction")

COMPACTIONS_MAX = 8
"""How often the context of one response is compacted."""
TURNS_MAX = 32
"""After so many turns the model is offered no more tools of ours, and has to answer."""


class Progress(msgspec.Struct):
    """How far a response has come, as far as its events do not tell.

    Attributes:
        turns: samples that came to their end.
        calls: calls of hosted tools so far.
        used: tokens of those samples.
        counted: whether every one of them said what it used.
        sampling: whether a sample is under way.
    """

    turns: int = 0
    calls: int = 0
    used: Usage = Usage()
    counted: bool = True
    sampling: bool = False

    @property
    def known(self) -> Usage | None:
        """What was used, None where a sample did not say."""
        return self.used if self.counted else None

    def add(self, usage: Usage | None) -> None:
        """A sample has come to its end."""
        self.sampling = False
        self.turns += 1
        self.counted = self.counted and usage is not None
        if usage is not None:
            self.used = self.used + usage


class Compacting(msgspec.Struct, frozen=True):
    """How the context of a response is compacted.

    Attributes:
        alone: whether that is all the response does (``compaction_trigger``).
        threshold: how many tokens of context there are before it is done in the middle of a response; None for never.
        seal: gives the ``encrypted_content`` of a compaction; ``unseal`` opens it.
    """

    alone: bool
    threshold: int | None
    seal: Callable[[Json], str]
    unseal: Unseal


class TurnContext(msgspec.Struct, frozen=True, kw_only=True):
    """All that the turns of one response work with.

    Attributes:
        prompt: what the model is asked first, without what the response has said.
        offers: what the model may call, and who runs it.
        calls_max: how many calls of them may be made (``max_tool_calls``); None for as many as it likes.
        whole_calls: whether calls become visible only when they are whole.
        truncate: whether a prompt that is too long may be shortened.
        seal: gives the ``encrypted_content`` of a reasoning item; None where it is not wanted.
        note_images: whether a model that refuses images is told of them in words instead.
        scope: in whose name hosted tools run; what an answer cites is of its ``sources``.
        citations: how that is found.
        recalled: items of before a crash by their ids, as their tools have recalled them.
    """

    model: Model
    prompt: Prompt
    writer: Writer
    log: Log
    ids: Callable[[str], str]
    scope: Scope
    progress: Progress
    timer: ResponseTimer
    offers: Offers = Offers()
    calls_max: int | None = None
    whole_calls: bool = False
    truncate: bool = False
    note_images: bool = False
    seal: Callable[[Json], str] | None = None
    compacting: Compacting | None = None
    tool_activity: ToolActivity = msgspec.field(default_factory=ToolActivity)
    citations: Mode = "auto"
    recalled: Mapping[str, Json] = {}


async def take_turns(turn: TurnContext, open_item: Item | None = None, prefix: str = "") -> Finish:
    """Sample until the model has answered, or called a function of the caller's; returns how it finished.

    Args:
        open_item: an open item that the first sample goes on with; ``prefix`` is its text so far.

    Raises:
        InvalidRequest: ``context_length_exceeded``.
        antiphon.wire.errors.ApiError: what the model raised, or an answer that is not what was asked for.
    """
    if turn.compacting is not None and turn.compacting.alone:
        return await _compact_alone(turn, turn.compacting)
    corrections = Corrections()
    while True:
        if open_item is None:
            await _compact_at_threshold(turn, corrections)
        first = turn.writer.state.length
        prompt = _prompt(turn, corrections)
        if prefix:
            prompt = msgspec.structs.replace(prompt, prefix=prefix)
        assembler = _assembler(turn, prompt, open_item, corrections)
        turn.progress.sampling = True
        finish = await _sample_shown(turn, prompt, assembler)
        turn.progress.add(finish.usage)
        turn.timer.note_helps(finish.helps)
        if is_bound(prompt) and finish.reason == "stop" and not assembler.calls.taken and not assembler.is_astray:
            check_answer(prompt, turn.writer.state.output[first - (open_item is not None) :])
        assembler.end()
        turn.timer.note_helps(assembler.calls.helps)
        open_item, prefix = None, ""
        if assembler.calls.invalid and finish.reason == "stop":
            turn.timer.note_helps(corrections.learn(assembler.calls.held, assembler.calls.invalid))
            continue
        corrections = Corrections()
        if finish.reason != "stop" or not assembler.calls.hosted:
            return finish
        if await _run_hosted(turn, assembler.calls.hosted) or any(
            is_call(item) for item in turn.writer.state.output[first:]
        ):
            return finish


async def _run_hosted(turn: TurnContext, calls: Sequence[tuple[HostedOffer, ToolCall]]) -> bool:
    """Make the calls; those beyond ``calls_max`` are left out. Says whether one waits for the caller."""
    left = len(calls) if turn.calls_max is None else max(0, turn.calls_max - turn.progress.calls)
    opened = open_calls(turn.writer, calls[:left])
    turn.progress.calls += len(opened)
    await turn.log.flush()
    await run_calls(opened, turn.scope, turn.tool_activity, turn.log.flush)
    return len(opened) < len(calls[:left])


def _assembler(turn: TurnContext, prompt: Prompt, open_item: Item | None, corrections: Corrections) -> Assembler:
    sources = turn.scope.sources if turn.prompt.format.type == "text" else Sources()
    rules = _call_rules(turn, prompt, corrections)
    seal, citations = turn.seal, turn.citations
    return Assembler(turn.writer, turn.ids, rules, open_item=open_item, seal=seal, sources=sources, citations=citations)


def _call_rules(turn: TurnContext, prompt: Prompt, corrections: Corrections) -> CallRules:
    offers, repairs = turn.offers.by_name.values(), turn.model.tool_help == "repair"
    has_silent = any(isinstance(each, ClientOffer) and not each.tool.live for each in offers)
    must_call = prompt.tool_choice.mode == "required"
    # What the model was told here was said by nobody, and none of those calls was made.
    context = prompt.items[: len(prompt.items) - len(corrections.items)]
    return CallRules(
        offers=turn.offers,
        calls_max=None if turn.prompt.parallel_tool_calls else 1,
        choice=turn.prompt.tool_choice,
        must_call=must_call,
        # Whatever the model knows from its context: else one that calls on would never be done.
        may_call=frozenset(function.name for function in prompt.callable_functions),
        # Nothing of an answer may be shown that has to be asked for again.
        whole=turn.whole_calls or repairs or has_silent,
        repairs=repairs,
        asked=last_user_text(prompt.items) if repairs else "",
        transcript=Transcript(context, prompt.instructions) if repairs and prompt.callable_functions else None,
        finding=corrections.finding,
        just_made=calls_just_made(context) if repairs and not must_call else {},
    )


def _prompt(turn: TurnContext, corrections: Corrections) -> Prompt:
    """What the model is asked next. A call that had to be made was made in the first turn."""
    state, prompt, progress = turn.writer.state, turn.prompt, turn.progress
    if not state.length and not corrections:
        return prompt
    done = [item for i, item in enumerate(state.output) if i not in state.open]
    spent = progress.turns >= TURNS_MAX or (turn.calls_max is not None and progress.calls >= turn.calls_max)
    functions = tuple(f for f in prompt.functions if not spent or isinstance(turn.offers.find(f.name), ClientOffer))
    choice = prompt.tool_choice
    if progress.turns and choice.mode == "required" and not corrections:
        choice = ToolChoice("auto", choice.names)
    left = prompt.max_output_tokens
    if left is not None:
        left = max(1, left - progress.used.output)
    prompt = msgspec.structs.replace(
        prompt,
        items=(*_context(turn, complete_items(done)), *corrections.items),
        functions=functions,
        tool_choice=choice,
        max_output_tokens=left,
    )
    return corrections.apply(prompt)


def _context(turn: TurnContext, done: Sequence[Json]) -> tuple[Json, ...]:
    """What the model is shown: the prompt's items and what the response has done, as far as that is not compacted."""
    lower, at = turn.offers.toolbox.lower, compaction.latest(done)
    done = [turn.recalled.get(item["id"], item) for item in done]
    if at is None or turn.compacting is None:
        return (*turn.prompt.items, *lower(done))
    front = apply_compaction([*turn.prompt.items, *done[: at + 1]], turn.compacting.unseal, lambda _: "input")
    return (*front, *lower(done[at + 1 :]))


# Compaction


async def _compact_alone(turn: TurnContext, compacting: Compacting) -> Finish:
    """All that the response is: one item. One that a crash left open is gone on with."""
    opened = next((Item(turn.writer, item) for item in turn.writer.state.open.values()), None)
    item = opened or turn.writer.item("compaction", encrypted_content="")
    if opened is None:
        item.phase("compacting")
    await turn.log.flush()
    made = await _compact(turn, turn.prompt)
    turn.progress.turns += 1
    item.done(encrypted_content=compacting.seal(msgspec.to_builtins(made)))
    return Finish()


async def _compact_at_threshold(turn: TurnContext, corrections: Corrections) -> None:
    """Compact the context where it has reached the threshold. Where that fails, it stays as it is."""
    compacting, output = turn.compacting, turn.writer.state.output
    if compacting is None or compacting.threshold is None or corrections:
        return
    times = sum(item["type"] == "compaction" for item in output)
    if times >= COMPACTIONS_MAX or (output and output[-1]["type"] == "compaction"):
        return
    prompt = _prompt(turn, Corrections())
    if await _tokens(turn, prompt, compacting.threshold) < compacting.threshold:
        return
    try:
        made = await _compact(turn, prompt)
    except ApiError as error:
        compaction_log.warning("compaction failed: %s", error.code or error.type)
        return
    if made.tokens >= made.original_tokens:
        return
    sealed = compacting.seal(msgspec.to_builtins(made))
    turn.writer.item("compaction", encrypted_content="").done(encrypted_content=sealed)
    await turn.log.flush()


async def _compact(turn: TurnContext, prompt: Prompt) -> compaction.Compaction:
    turn.progress.sampling = True
    made, used = await compaction.compact(turn.model, prompt)
    turn.progress.sampling = False
    turn.progress.counted = turn.progress.counted and used is not None
    turn.progress.used += used or Usage()
    return made


async def _tokens(turn: TurnContext, prompt: Prompt, relevant: int) -> int:
    """Tokens of the prompt. They are not counted where it is plain that there are fewer than are ``relevant``."""
    estimated = estimate_prompt(prompt)
    if estimated * BYTES_PER_TOKEN < relevant:
        return estimated
    try:
        return await turn.model.count(prompt)
    except ApiError:
        return estimated


# Sampling


async def _refuse_overlong(turn: TurnContext, prompt: Prompt) -> None:
    """See that a prompt fits that looks as if it did not: there are servers that would cut it without a word. Where
    nobody can count it, it is refused only if it cannot possibly fit.

    Raises:
        ContextTooLong: it does not.
    """
    window = turn.model.context_tokens
    if window is None or estimate_prompt(prompt) < window:
        return
    tokens = bound_prompt(prompt)
    if not turn.model.estimates_tokens:
        with suppress(ApiError):
            tokens = max(tokens, await turn.model.count(prompt))
    if tokens > window:
        raise ContextTooLong(tokens, window)


async def _sample_shown(turn: TurnContext, prompt: Prompt, assembler: Assembler) -> Finish:
    """Sample; where images turn out to be nothing for the model, with a note in their place, if that is wanted."""
    try:
        return await _sample_shortened(turn, prompt, assembler)
    except ImagesRefused:
        if not turn.note_images or not assembler.is_silent:
            raise
    noted = msgspec.structs.replace(prompt, items=tuple(replace_images(prompt.items)))
    return await _sample_shortened(turn, noted, assembler)


async def _sample_shortened(turn: TurnContext, prompt: Prompt, assembler: Assembler) -> Finish:
    async def ask(prompt: Prompt) -> Finish:
        await _refuse_overlong(turn, prompt)
        return await _sample(turn, prompt, assembler)

    return await ask_shortened(prompt, ask, lambda: turn.truncate and assembler.is_silent)


async def _sample(turn: TurnContext, prompt: Prompt, assembler: Assembler) -> Finish:
    log, timer = turn.log, turn.timer
    timer.note_request()
    async with turn.model.sample(prompt) as batches:
        async for batch in batches:
            if not timer.first_delta:
                timer.note_first_delta()
            assembler.feed(batch)
            await log.flush()
    timer.note_finish()
    if assembler.finish is None:
        raise UpstreamError("The model's answer ended in the middle.", code="upstream_ended")
    return assembler.finish

"""Whether a model calls or speaks, and what it calls: chosen without chance. A temperature is for texts.

The first tokens are asked for by themselves. If they open a call, or the odds say that one was likely while words were
likelier, a call is sampled greedily, begun for the model in the latter case; what becomes no call is dropped. Else the
answer is sampled as it was asked for, and so is one that begins with reasoning: who reasons chooses by that. The prompt
is read once: its server has it when it is asked again, since nothing is cut off in the middle.

Where no function is needed (``need``), the model answers and is told of none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final, TypeAlias

import msgspec

from antiphon.models import Call, Delta, Finish, Prompt, Reasoning, Text, ToolChoice, ToolMeasure
from antiphon.models.chat import need
from antiphon.models.chat.body import shows_in_words
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.fenced import CALL_BEGUN, IN_WORDS
from antiphon.models.probing import note_usage
from antiphon.models.tokens import estimate_prompt

Batches: TypeAlias = AsyncIterator[Sequence[Delta]]
Open: TypeAlias = Callable[[Prompt, str], AbstractAsyncContextManager[Batches]]
"""Samples a prompt, with what is put into the model's mouth."""

_ALTERNATIVES: Final = 10
_READ_AGAIN_MAX: Final = 4096
"""How many tokens a prompt may have for being read again without its functions."""
_SEARCH_TOKENS_MAX: Final = 256
"""How long a search may be that is asked for, however long an answer may be: a weak model may go on to the end."""
_OPENER_TOKENS: Final = 4
"""How many tokens tell whether a call was opened, where the first one's odds are not looked at."""


def is_choice(prompt: Prompt, config: ChatConfig) -> bool:
    """Whether the model has a choice, and is helped with it."""
    free = prompt.tool_choice.mode == "auto" and prompt.format.type == "text"
    # One token holds no call: by it a prompt is counted, or a model is loaded.
    has_room = prompt.max_output_tokens != 1 and not prompt.prefix
    asked = has_room and prompt.top_logprobs is None and bool(prompt.callable_functions)
    return (
        config.tool_help == "repair" and free and asked and (_looks(prompt, config) or not _is_greedy(prompt, config))
    )


def _looks(prompt: Prompt, config: ChatConfig) -> bool:
    """Whether the odds of a call are looked at too."""
    return config.call_odds is not None and shows_in_words(prompt, config)


def _is_greedy(prompt: Prompt, config: ChatConfig) -> bool:
    temperature = config.sampling.get("temperature") if prompt.temperature is None else prompt.temperature
    return temperature == 0


@asynccontextmanager
async def sample_choice(open: Open, prompt: Prompt, config: ChatConfig) -> AsyncGenerator[Batches]:
    """Sample once; see ``Model.sample``."""
    greedy = msgspec.structs.replace(prompt, temperature=0.0, presence_penalty=0.0, frequency_penalty=0.0)
    begun, opening = await _look(open, greedy, config)
    words = msgspec.structs.replace(prompt, functions=())
    is_read_again = begun is not None and _looks(prompt, config) and estimate_prompt(words) <= _READ_AGAIN_MAX
    settled = await _settle(open, words, greedy, opening) if is_read_again else None
    if settled is not None:
        async with open(settled, "") as batches:
            yield _Begun(batches).rest("searched" if settled.functions else "needless")
        return
    async with AsyncExitStack() as stack:
        if begun is not None:
            answer = _Begun(await stack.enter_async_context(open(greedy, begun)))
            first = await answer.first()
            if _is_for_words(first, prompt):
                await stack.aclose()
                yield _Begun(await stack.enter_async_context(open(words, ""))).rest("needless")
                return
            if isinstance(first, Call) or (not begun and (not isinstance(first, Text) or _is_greedy(prompt, config))):
                help = "chosen_greedily" if isinstance(first, Call) else None
                yield answer.rest(help)
                return
            await stack.aclose()
        yield await stack.enter_async_context(open(prompt, ""))


def _is_for_words(first: Delta | None, prompt: Prompt) -> bool:
    """Whether an answer calls the function that is offered for words, which nobody can run."""
    declared = any(function.name == IN_WORDS.name for function in prompt.functions)
    return isinstance(first, Call) and first.name == IN_WORDS.name and not declared


async def _look(open: Open, greedy: Prompt, config: ChatConfig) -> tuple[str | None, float]:
    """What a call is begun with: nothing, where the model begins one itself; None where no call is likely. And how
    likely the model begins one, as log odds.
    """
    looks = _looks(greedy, config)
    few = msgspec.structs.replace(
        greedy, max_output_tokens=1 if looks else _OPENER_TOKENS, top_logprobs=_ALTERNATIVES if looks else None
    )
    first = await _sample_first(open, few, "")
    if isinstance(first, Reasoning):
        return None, 0.0
    if not isinstance(first, Text):
        return "", 0.0
    opening = need.log_odds_of_opening(first)
    if first.text.lstrip().startswith(need.OPENERS):
        return "", opening
    names = [IN_WORDS.name, *(function.name for function in greedy.callable_functions)]
    is_likely = config.call_odds is not None and (
        greedy.prefers_call or need.odds_of_call(first, names) >= config.call_odds
    )
    return (CALL_BEGUN if looks and is_likely else None), opening


async def _sample_first(open: Open, prompt: Prompt, begun: str) -> Delta | None:
    """The first delta of a sample that says what it is."""
    async with open(prompt, begun) as batches:
        answer = _Begun(batches)
        first = await answer.first()
        # To its end: a server that is cut off may not be free yet when it is asked again.
        async for batch in answer.rest(None):
            note_usage(batch)
    return first


async def _settle(open: Open, words: Prompt, greedy: Prompt, opening: float) -> Prompt | None:
    """What is asked instead where no function is needed, or a search unless the model thought of another function;
    None where it is to call what it chooses, or nothing tells.
    """
    functions = greedy.callable_functions
    names = [function.name for function in functions]
    one = msgspec.structs.replace(greedy, max_output_tokens=1, top_logprobs=_ALTERNATIVES)
    named = await _sample_first(open, one, CALL_BEGUN)
    if not isinstance(named, Text) or not named.logprobs:
        return None
    name = need.log_odds_of_name(named, names)
    needed = need.is_needed(greedy, opening, name)
    if needed is None:
        asked = need.question(one)
        answer = await _sample_first(open, asked, "") if asked is not None else None
        chosen = need.log_odds_of_need(answer, len(names)) if isinstance(answer, Text) else 0.0
        needed = need.is_needed_after_all(opening, name, chosen)
    if not needed:
        return words
    search = next((function.name for function in functions if function.searches), None)
    if search is None or need.is_name(named, [name for name in names if name != search]):
        return None
    tokens = min(greedy.max_output_tokens or _SEARCH_TOKENS_MAX, _SEARCH_TOKENS_MAX)
    return msgspec.structs.replace(greedy, tool_choice=ToolChoice("required", (search,)), max_output_tokens=tokens)


class _Begun:
    """A sample of which the beginning is looked at before it is passed on."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._held: list[Sequence[Delta]] = []

    async def first(self) -> Delta | None:
        """The first delta that says what the answer is; blanks do not."""
        async for batch in self._batches:
            self._held.append(batch)
            for delta in batch:
                if not isinstance(delta, Text) or delta.text.strip():
                    return delta
        return None

    async def rest(self, help: ToolMeasure | None) -> AsyncGenerator[Sequence[Delta]]:
        """All of it.

        Args:
            help: by what it was chosen; None where it was not.
        """
        for batch in self._held:
            yield _mark(batch, help)
        async for batch in self._batches:
            yield _mark(batch, help)


def _mark(batch: Sequence[Delta], help: ToolMeasure | None) -> Sequence[Delta]:
    if help is None or not isinstance(last := batch[-1], Finish):
        return batch
    return [*batch[:-1], msgspec.structs.replace(last, helps=(help, *last.helps))]

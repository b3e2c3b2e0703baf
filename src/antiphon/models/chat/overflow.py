"""How servers say that a prompt is longer than their window, and which numbers they say with it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

KINDS: Final = frozenset(
    {
        "exceed_context_size_error",
        "context_length_exceeded",
        "context_window_exceeded",
        "model_max_prompt_tokens_exceeded",
        "tokens_limit_reached",
        "prompt_too_long",
    }
)
"""What servers write as ``type`` or ``code``."""

_CONTEXT: Final = r"context[ _-]?(?:length|window|size|limit|overflow)"
_GIVEN: Final = r"(?:prompt|input|request|messages?)"
_TOKENS: Final = r"(?<!_)(?<!output )(?<!completion )(?<!max )tokens?"
"""Of a prompt, as far as nothing else is said."""
_TOO_LONG: Final = re.compile(
    "|".join(
        (
            # OpenAI, vLLM, SGLang, DeepSeek, OpenRouter, Mistral, llama.cpp, LM Studio, Fireworks …
            r"(?:max(?:imum)?|model'?s?|endpoint'?s|available|reached|this model|with) (?:the |its |model )?"
            + _CONTEXT,
            rf"{_CONTEXT}(?: has been| was| is| of)? ?(?:exceed|only|\()",
            r"contextwindowexceeded",
            r"(?:exceed\w*|greater than|longer than|larger than|beyond|over) (?:\w+'?s? ){0,4}?"
            rf"(?:{_CONTEXT}|(?:input|prompt|model|sequence|maximum|max|allowed) length|token limit"
            r"|max(?:imum)? context|context\b|cache size|(?:number of |limit for )(?:input |prompt )?tokens)",
            rf"{_CONTEXT}[^.;]{{0,40}} (?:was|is|has been) exceeded",
            r"\bfit (?:\w+ ){0,3}?(?:in|into|within) (?:\w+'?s? ){0,3}?context",
            r"context shift is disabled",
            # Anthropic, Bedrock, Ollama, vLLM, Zhipu, AI21
            r"(?:prompt|input|conversation|messages?)(?: text| tokens?)?(?: is| are|:)? too (?:long|large)"
            r"(?! a number)",
            r"input \(\d+ tokens\) is too large to process",
            r"(?:decoder )?prompt \((?:total )?length \d+\)",
            rf"{_GIVEN} (?:length )?\(?\d+\)? (?:tokens )?(?:exceeds|is greater than)",
            r"too large for model",
            r"prompt ?超长|(?:上下文|输入|提示词?)\S{0,8}(?:超过|超出|超限|过长|超长)",
            # Gemini, xAI, Cohere, TGI, Copilot, Groq, Cerebras, SambaNova, Databricks
            rf"{_GIVEN} tokens? (?:count )?(?:exceeds?|\(\d+\) exceeds?|is \d+ but)",
            r"(?:prompt|input) token count (?:of|is) \d+",
            r"maximum prompt length is",
            r"too many (?:input |prompt )?tokens(?!,? please wait|:? max[ _]tokens| per )",
            rf"tokens in the {_GIVEN} (?:cannot |must not )?exceed",
            # SiliconFlow, Zhipu, and whoever names no context
            rf"{_TOKENS}(?: \(?[\d,]+\)?)? (?:has |have )?(?:exceed(?:s|ed)?|(?:is|are) (?:larger|greater|more) than)"
            r" (?:the )?(?:\w+'s )?(?:max|limit|allowed|\d)",
            rf"tokens in (?:the |your )?{_GIVEN} (?:is |are )?(?:more|larger|greater) than",
            rf"{_GIVEN} exceeds? [\d,]+ tokens",
            rf"{_GIVEN} (?:has|contains) [\d,]+ tokens[^.]{{0,40}}"
            r"(?:supports?|allows?|accepts?) (?:at most|up to|only)",
            rf"(?:{_GIVEN} length|tokens? limit) (?:exceeds? the max|exceeded|reached)",
            r"`?inputs`? (?:tokens \+|must have less than \d+ tokens)",
            r"reduce the length of the (?:messages|prompt|input)",
            r"maximum supported sequence length",
            r"requested tokens \(\d+\) exceed",
            # exllama, TensorRT-LLM, LMDeploy, DashScope, Azure, llama.cpp, LM Studio
            r"(?:max_seq_len|max_model_len|max_num_tokens|model_max_length|session_len)\b",
            r"range of input length should be",
            r"body too large for \S+ model\. max size: \d+ tokens",
            r"n_keep \(\d+\) >= n_ctx|tokens to keep from the initial prompt|keep the first \d+ tokens",
            r"max_tokens must be at least 1, got -",
        )
    ),
    re.IGNORECASE,
)
_NUMBER: Final = r"(\d[\d,]*)"
_WINDOW: Final = (
    re.compile(rf"\+ \d+ > {_NUMBER}"),
    re.compile(rf"(?:greater|longer|larger) than (?:[\w']+ ){{0,5}}\(?(?!0\b){_NUMBER}", re.IGNORECASE),
    re.compile(
        "|".join(
            (
                rf"{_CONTEXT}(?: limit)?(?: of \S+ is| is| of| to)?(?: just| only)?(?: of)?[:\s(]*{_NUMBER}"
                r"(?![\d,]* >)",
                r"maximum (?:(?:allowed|input|prompt|model|supported|sequence) ){0,2}length"
                rf"(?: is| of)?(?: just)?[:\s(]*{_NUMBER}",
                rf"number of tokens allowed[\s(]*{_NUMBER}",
                rf"{_NUMBER} maximum",
                r"(?:cannot exceed|must be <=|must have less than|must be less than|supports (?:up to|at most)) "
                + _NUMBER,
                rf"(?:max_seq_len|max_num_tokens|max_model_len|max_prompt_tokens|session_len)[^\d]{{0,8}}{_NUMBER}",
                rf"n_ctx \({_NUMBER}",
                rf"(?:token |configured |, )?limit(?: for this model)?(?: is| of|:)? {_NUMBER}(?! \+)",
                rf"max (?:size|input tokens): {_NUMBER}",
                rf"\bmax(?:imum)?(?: context)?:? \(?{_NUMBER}",
                rf"{_GIVEN} exceeds? {_NUMBER} tokens",
                rf"\[1, {_NUMBER}\]",
                rf"\d(?: tokens)? > {_NUMBER}",
            )
        ),
        re.IGNORECASE,
    ),
)
_PROMPT: Final = (
    re.compile(
        rf"\({_NUMBER} (?:in (?:the messages|(?:your|the) prompt)|of text input)|{_NUMBER} tokens from the input"
        rf"|passed {_NUMBER} input(?! char)|contains at least {_NUMBER} input",
        re.IGNORECASE,
    ),
    re.compile(
        "|".join(
            (
                r"(?:resulted in|(?:request|prompt|input) has|prompt of|given:|got:|received|contains"
                r"|requested:?(?: input length)?)"
                rf"(?: at least| about| over)? {_NUMBER}(?! output)",
                rf"(?:input|request|tokens|token count|input length|n_keep|context length) \({_NUMBER}[^>]",
                rf"token count(?: is| of|:) {_NUMBER}",
                rf"(?<!maximum )(?<!supported )(?:input|prompt|sequence)(?: token)? length(?: is| of)? \(?{_NUMBER}",
                rf"(?:total tokens|input[_ ]tokens) {_NUMBER}",
                rf"prompt \(?(?:(?:total )?length )?{_NUMBER}",
                rf"too long[:\s-]+{_NUMBER}",
                rf"(?:keep the first|provided prompt is|current length is) {_NUMBER}",
                rf"context length {_NUMBER} is",
                rf"limit: {_NUMBER} \+",
                rf"\({_NUMBER} > \d",
            )
        ),
        re.IGNORECASE,
    ),
    re.compile(rf"{_NUMBER}(?: tokens)? > \d"),
)
"""First to last: some add the wanted answer to what was ``requested``, and say the messages' share elsewhere."""


def is_too_long(words: str) -> bool:
    """Whether the words say that a prompt is too long for the model."""
    return _TOO_LONG.search(words) is not None


def window_of(words: str) -> int | None:
    """The model's window, in tokens, where the words say it."""
    return _find(_WINDOW, words)


def prompt_of(words: str) -> int | None:
    """The prompt's length, in tokens, where the words say it."""
    return _find(_PROMPT, words)


def _find(patterns: Sequence[re.Pattern[str]], words: str) -> int | None:
    return next((_number(found) for one in patterns if (found := one.search(words))), None)


def _number(found: re.Match[str] | None) -> int | None:
    digits = next((group for group in found.groups() if group), "") if found else ""
    number = digits.replace(",", "")
    return int(number) if 0 < len(number) < 12 else None

"""How servers say that a prompt is too long, in the words of those in use; in an error, and within a stream."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from scripted_upstream import frames

from antiphon.models import ContextTooLong, Prompt
from antiphon.models.chat.config import ChatConfig
from antiphon.models.chat.errors import error_of_answer
from antiphon.models.chat.stream import ChatStream
from antiphon.wire.errors import InvalidRequest

TOO_LONG: list[Any] = [
    (
        "You passed 5001 input tokens and requested 200 output tokens. However, the model's "
        "context length is only 4096 tokens.",
        5001,
        4096,
    ),
    ("Input length (9000 tokens) exceeds the maximum allowed length (8192 tokens).", 9000, 8192),
    (
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You "
        "requested a total of 5000 tokens: 4500 tokens from the input messages and 500 tokens for the completion.",
        4500,
        4096,
    ),
    ("the request exceeds the available context size, try increasing it", None, None),
    ("request (900 tokens) exceeds the available context size (512 tokens), try increasing it", 900, 512),
    ("Context size has been exceeded.", None, None),
    (
        "Trying to keep the first 5000 tokens when context the overflows. However, the model "
        "is loaded with context length of only 4096 tokens",
        5000,
        4096,
    ),
    ("Cannot truncate prompt with n_keep (5000) >= n_ctx (4096)", 5000, 4096),
    (
        "Reached context length of 4096 tokens with model that does not support mid-generation context overflow",
        None,
        4096,
    ),
    ("prompt too long; exceeded max context length by 123 tokens", None, None),
    ("the input length exceeds the context length", None, None),
    ("Input validation error: `inputs` must have less than 4095 tokens. Given: 5000", 5000, 4095),
    (
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 20 `max_new_tokens`",
        5000,
        4096,
    ),
    ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1200000, 1048576),
    (
        "Unable to submit request because the input token count is 2097152 but model only supports up to 1048576",
        2097152,
        1048576,
    ),
    ("This model's maximum prompt length is 131072 but the request contains 140000 tokens.", 140000, 131072),
    ("too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000.", 5000, 4081),
    ("prompt is too long: 210000 tokens > 200000 maximum", 210000, 200000),
    ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", 190000, 200000),
    ("Input is too long for requested model.", None, None),
    (
        "This endpoint's maximum context length is 8192 tokens. However, you requested about "
        "9000 tokens (8500 of text input, 500 in the output).",
        8500,
        8192,
    ),
    (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
        40000,
        32768,
    ),
    ("Please reduce the length of the messages or completion.", None, None),
    ("The prompt is too long: 140000, model maximum context length: 131071", 140000, 131071),
    ("Range of input length should be [1, 30720]", None, 30720),
    ("Invalid request: Your request exceeded model token limit: 8192", None, 8192),
    ("invalid params, context window exceeds limit (2013)", None, None),
    ("Prompt exceeds max length", None, None),
    ("Requested tokens (5000) exceed context window of 4096", 5000, 4096),
    ("Prompt length 5000 is greater than max_seq_len 4096", 5000, 4096),
    ("Prompt length (5000) exceeds maximum input length (4096).", 5000, 4096),
    (
        "The estimated number of input and maximum output tokens (5000) exceeded this model "
        "context window limit (4096)",
        5000,
        4096,
    ),
    ("prompt token count of 5000 exceeds the limit of 4096", 5000, 4096),
    ("Request body too large for gpt-4o model. Max size: 8000 tokens.", None, 8000),
    ("The decoder prompt (length 5000) is longer than the maximum model length of 4096.", 5000, 4096),
    ("Too many input tokens. Max input tokens: 8192, request input token count: 9000", 9000, 8192),
    ("Your input exceeds the context window of this model.", None, None),
    (
        "The provided prompt is 4000 tokens long, so generating 1000 tokens requires 5000, "
        "but the maximum supported sequence length is just 4096!",
        4000,
        4096,
    ),
    (
        "This model's maximum context length is 4097 tokens. However, your messages resulted "
        "in 5001 tokens. Please reduce the length of the messages.",
        5001,
        4097,
    ),
    (
        "This model's maximum context length is 128000 tokens. However, your messages resulted "
        "in 130000 tokens (129000 in the messages, 1000 in the functions). Please reduce the "
        "length of the messages or functions.",
        129000,
        128000,
    ),
    (
        "This model's maximum context length is 8192 tokens, however you requested 10000 "
        "tokens (9000 in your prompt; 1000 for the completion). Please reduce your prompt; or "
        "completion length.",
        9000,
        8192,
    ),
    (
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        None,
        None,
    ),
    (
        "Your input exceeds the context window of this model. Please adjust your input and try again. This model's "
        "maximum context length is 4096 tokens. However, your input resulted in 5000 tokens.",
        5000,
        4096,
    ),
    (
        "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in "
        "300000 tokens. Please reduce the length of the messages.",
        300000,
        272000,
    ),
    ("Invalid 'messages': maximum context length exceeded", None, None),
    (
        "This model's maximum context length is 2048 tokens. However, you requested 2500 "
        "tokens (2400 in the messages, 100 in the completion). Please reduce the length of the "
        "messages or completion.",
        2400,
        2048,
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 4000. This model's maximum "
        "context length is 4096 tokens and your request has 200 input tokens (4000 > 4096 - "
        "200).",
        200,
        4096,
    ),
    (
        "The prompt (total length 5000) is too long to fit into the model (context length "
        "4096). Make sure that `max_model_len` is no smaller than the number of text tokens "
        "plus multimodal tokens.",
        5000,
        4096,
    ),
    (
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096. "
        "Make sure that `max_model_len` is no smaller than the number of text tokens.",
        5000,
        4096,
    ),
    (
        "This model's maximum context length is 4096 tokens. However, your request has 5000 "
        "input tokens. Please reduce the length of the input messages.",
        5000,
        4096,
    ),
    (
        "This model's maximum context length is 16384 tokens. However, you requested 0 output "
        "tokens and your prompt contains at least 16385 input tokens, for a total of at least "
        "16385 tokens. Please reduce the length of the input prompt or the number of requested "
        "output tokens.",
        16385,
        16384,
    ),
    (
        "You passed 40961 input characters and requested 0 output tokens. However, the model's "
        "context length is only 10240 tokens, resulting in a maximum input length of 10240 "
        "tokens (at most 40960 characters). Please reduce the length of the input prompt.",
        None,
        10240,
    ),
    ("Input length (5000) exceeds model's maximum context length (4096).", 5000, 4096),
    ("The input (5000 tokens) is longer than the model's context length (4096 tokens).", 5000, 4096),
    (
        "Input length (5000 tokens) exceeds the maximum allowed length (4090 tokens). Use a "
        "shorter input or enable --allow-auto-truncate.",
        5000,
        4090,
    ),
    (
        "Requested token count exceeds the model's maximum context length of 4096 tokens. You "
        "requested a total of 5000 tokens: 4500 tokens from the input messages and 500 tokens "
        "for the completion. Please reduce the number of tokens in the input messages or the "
        "completion to fit within the limit.",
        4500,
        4096,
    ),
    ("Input is too long. Input length 5000 exceeds the context length 4096.", 5000, 4096),
    (
        "Multimodal prompt is too long after expanding multimodal tokens. After expanding "
        "len(req.origin_input_ids_unpadded)=10 => 5000 >= 4096",
        None,
        None,
    ),
    (
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        None,
        None,
    ),
    (
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        5000,
        4096,
    ),
    ("input is too large to process. increase the physical batch size", None, None),
    (
        "input (5000 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
        5000,
        None,
    ),
    ("context shift is disabled", None, None),
    ("the prompt is too long for the context", None, None),
    (
        "The number of tokens to keep from the initial prompt is greater than the context "
        "length. Try to load the model with a larger context length, or provide a shorter "
        "input",
        None,
        None,
    ),
    (
        "Trying to keep the first 7202 tokens when context the overflows. However, the model "
        "is loaded with context length of only 4096 tokens, which is not enough. Try to load "
        "the model with a larger context length, or provide a shorter input",
        7202,
        4096,
    ),
    (
        "Reached context length of 4096 tokens with model (arch: llama) that does not "
        "currently support mid-generation context overflow. Try reloading the model with a "
        "larger context length or shortening the prompt/chat.",
        None,
        4096,
    ),
    ("The model has reached the context length limit.", None, None),
    ("the prompt is longer than the context window", None, None),
    ("input length exceeds maximum context length", None, None),
    ("prompt too long; exceeded max context length by 4 tokens", None, None),
    ("input exceeds maximum context length and cannot be truncated further", None, None),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: "
        "5000 `inputs` tokens and 20 `max_new_tokens`",
        5000,
        4096,
    ),
    ("inputs must have less than 1024 tokens. Given: 1337", 1337, 1024),
    ("The input token count exceeds the maximum number of tokens allowed 1048576.", None, 1048576),
    (
        "Unable to submit request because the input token count is 40000 but model only "
        "supports up to 32768. Reduce the input token count and try again.",
        40000,
        32768,
    ),
    ("Request contains too many tokens", None, None),
    ("Prompt is too long for this model", None, None),
    (
        "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received "
        "5000. Try using a shorter prompt",
        5000,
        4081,
    ),
    (
        "too many tokens: size limit exceeded by 1000 tokens. Try using shorter or fewer "
        "inputs, or setting prompt_truncation='AUTO'.",
        None,
        None,
    ),
    ("message is too long. Total length of message must be less than 4000 tokens", None, 4000),
    ("prompt is too long: 1000001 tokens > 1000000 maximum", 1000001, 1000000),
    (
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease "
        "input length or `max_tokens` and try again",
        190000,
        200000,
    ),
    ("input length exceeds the model context window", None, None),
    ("The conversation is too long", None, None),
    ("The model returned the following errors: Input is too long for requested model.", None, None),
    ("Too many input tokens. Max input tokens: 8192, request input token count: 9000 ", 9000, 8192),
    (
        "The model returned the following errors: prompt is too long: 210000 tokens > 200000 maximum",
        210000,
        200000,
    ),
    (
        "This endpoint's maximum context length is 8192 tokens. However, you requested about "
        "9000 tokens (8500 of text input, 500 in the output). Please reduce the length of "
        'either one, or use the "middle-out" transform to compress your prompt automatically.',
        8500,
        8192,
    ),
    (
        "Provider returned error: This model's maximum context length is 32768 tokens. "
        "However, you requested 40000 tokens",
        40000,
        32768,
    ),
    ("Prompt contains 65673 tokens, too large for model with 32768 maximum context length", 65673, 32768),
    ("The number of tokens in the prompt exceeds the model's maximum context length of 32768", None, 32768),
    (
        "This model's maximum context length is 65536 tokens. However, you requested 70000 "
        "tokens (68000 in the messages, 2000 in the completion). Please reduce the length of "
        "the messages or completion.",
        68000,
        65536,
    ),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193. Given: "
        "9000 `inputs` tokens and 0 `max_new_tokens`",
        9000,
        8193,
    ),
    ("This model's maximum context length is 8192 tokens; your input has 9000 tokens", 9000, 8192),
    ("prompt is too long. prompt_len=9000, max_len=8192", None, None),
    (
        "Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192",
        9000,
        8192,
    ),
    ("InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]", None, 98304),
    ("<400> InternalError.Algo.InvalidParameter: Input length exceeds the maximum", None, None),
    ("Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)", 9000, 8192),
    ("Prompt 超长", None, None),
    ("tokens limit exceeded", None, None),
    ("input tokens exceed limit", None, None),
    ("The request contains too many tokens", None, None),
    (
        "The maximum context length of DeepSeek is 8192. However, answering your request will "
        "take 9000 tokens. Please reduce the length of the messages or the specified "
        "max_completion_tokens value.",
        None,
        8192,
    ),
    ("Bad request: prompt token count (5000) exceeds max context (4096)", 5000, 4096),
    ("Exceeded max limit for input tokens. Requested 9000, limit 8192", 9000, 8192),
    ("prompt token count of 140000 exceeds the limit of 128000", 140000, 128000),
    (
        "Prompt length (5000) exceeds maximum input length (4096). Set log level to info and "
        "check TRTGptModel logs for how maximum input length is set",
        5000,
        4096,
    ),
    (
        "The sum of prompt length (5000.0), query length (0) should not exceed max_num_tokens (4096)",
        5000,
        4096,
    ),
    (
        "default_max_tokens (-100) must be greater than 0. default_max_tokens = max_seq_len - splited_prompt_len",
        None,
        None,
    ),
    (
        "This model's maximum context length is 2048 tokens, however you requested 2500 tokens "
        "(2400 in your prompt; 100 for the completion).",
        2400,
        2048,
    ),
    ("Context length 5000 is greater than max_seq_len 4096", 5000, 4096),
    ("Request context length 5000 is greater than the cache size 4096", 5000, 4096),
    ("input token length 5000 exceeds session_len 4096", 5000, 4096),
    ("The input is too long; the session length is 4096", None, None),
    ("Prompt is too long. Max context length is 4096", None, 4096),
    ("Prompt tokens (5000) exceed the maximum context (4096)", 5000, 4096),
    ("Prompt is too long - 9000 tokens. Maximum 8191", 9000, 8191),
    ("This model's context length is 8192 tokens, but the prompt has 9000", 9000, 8192),
    ("The total number of tokens in the prompt exceeds the limit", None, None),
    ("Input too long: 9000 tokens, max 8192", 9000, 8192),
    ("Requested input length 9000 exceeds maximum input length 8191", 9000, 8191),
    ("Input prompt exceeds the token limit", None, None),
    ("ContextWindowExceededError: x", None, None),
    (
        "litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException - This "
        "model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9000 tokens.",
        9000,
        8192,
    ),
    ("Total tokens 9000 exceed the model's context window 8192", 9000, 8192),
    ("model_max_length exceeded", None, None),
    (
        "Token indices sequence length is longer than the specified maximum sequence length "
        "for this model (5000 > 4096)",
        5000,
        4096,
    ),
    ("input_tokens 5000 exceeds context_window 4096", 5000, 4096),
    ("number of input tokens (204703) has exceeded max_prompt_tokens (202752) limit.", 204703, 202752),
    ("tokens in request more than max tokens allowed", None, None),
    ("Input length 131393 exceeds the maximum allowed input length of 131040 tokens.", 131393, 131040),
    ("Total number of tokens (5000) exceeds the model's limit of 4096", 5000, 4096),
    ("Prompt tokens exceed max allowed: 5000 > 4096", 5000, 4096),
    ("Exceeded maximum context length: 5000 > 4096", 5000, 4096),
    ("messages too long: 5000 tokens > 4096 tokens", 5000, 4096),
    ("The total length of the input exceeds 30720 tokens", None, 30720),
    ("Number of input tokens 5000 is larger than 4096", 5000, 4096),
    ("The sequence length 5000 exceeds the maximum sequence length 4096", 5000, 4096),
    ("The engine prompt length 5000 exceeds the max_model_len 4096. Please reduce prompt.", 5000, 4096),
    ("The input text is too long: 5000 tokens; the limit is 4096", 5000, 4096),
    ("Input too long. Max: 4096 tokens, got: 5000", 5000, 4096),
    ("prompt tokens too long", None, None),
    ("Your prompt has 5000 tokens, but the model supports at most 4096", 5000, 4096),
    ("The conversation is longer than the model's context", None, None),
    ("The context length of 4096 tokens was exceeded by the prompt of 5000 tokens", 5000, 4096),
    ("Unable to fit the prompt in the context", None, None),
    ("\u8bf7\u6c42\u7684\u4e0a\u4e0b\u6587\u957f\u5ea6\u8d85\u8fc7\u6a21\u578b\u9650\u5236", None, None),
    ("\u8f93\u5165\u8fc7\u957f", None, None),
]


@pytest.mark.parametrize(("words", "prompt", "window"), TOO_LONG)
def test_too_long_in_every_servers_words(words: str, prompt: Any, window: Any) -> None:
    error = {"error": {"message": words, "code": 400}}
    found = [error_of_answer(status, msgspec.json.encode(error), {}) for status in (400, 413)]
    for body in (frames(error), f"data: {words}\n\n".encode()):
        stream = ChatStream(Prompt(items=()), ChatConfig(base_url="http://model/v1", model="m"))
        with pytest.raises(ContextTooLong) as caught:
            stream.feed(body)
            stream.end()
        found.append(caught.value)
    for one in found:
        assert isinstance(one, ContextTooLong)
        assert (one.prompt_tokens, one.context_tokens) == (prompt, window)


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64.",
        "The tool name is longer than allowed.",
        "Image is too large: 9000 pixels.",
        "temperature must be less than 2",
        "Invalid value for context",
        "max_tokens must be less than or equal to 4096",
        "too many tokens: max tokens must be less than or equal to 4096, the maximum output length for this model",
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens",
        "Invalid 'tools[0].function.description': string too long. Expected a string with maximum length 1024.",
        "The maximum number of images was exceeded.",
        "Request too large",
        "output tokens (5000) exceed limit 4096",
        "max_completion_tokens exceeds the model's limit of 4096",
        "max_new_tokens (5000) exceeds limit 4096",
        "The number of tools is larger than 128",
        "Stop sequences: more than max allowed (4).",
        "Input image exceeds the limit of 4096 pixels.",
    ],
)
def test_other_things_that_are_too_long(words: str) -> None:
    assert isinstance(error_of_answer(400, msgspec.json.encode({"error": {"message": words}}), {}), InvalidRequest)

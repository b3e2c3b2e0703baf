"""A model's own tokenizer and chat template, in files as its makers publish them: ``tokenizer.json``, and beside it
``chat_template.jinja`` or ``tokenizer_config.json``.

Templates are programs: they run in a sandbox that lets them change nothing.
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from antiphon.wire import Json

if TYPE_CHECKING:
    from jinja2 import Template
    from tokenizers import Tokenizer

_NAMED: Final = ("bos_token", "eos_token", "pad_token", "unk_token")


class NoTemplate(ValueError):
    """There is no such tokenizer, or its template cannot show a prompt; the text says why."""


class LocalTokenizer:
    """Counts the tokens of a chat-completions body."""

    def __init__(self, tokenizer: Tokenizer, template: Template, named: Json) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._named = named

    def count(self, body: Json) -> int:
        """How many tokens the body's prompt has. Takes about a second for a million characters.

        Raises:
            NoTemplate: the template refuses it.
        """
        from jinja2 import TemplateError

        shown: Json = {**self._named, "add_generation_prompt": True, "tools": None, **body}
        shown |= cast(Json, shown.pop("chat_template_kwargs", {}))
        shown["messages"] = [_with_objects(message) for message in body["messages"]]
        try:
            text = self._template.render(**shown)
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise NoTemplate(f"the chat template cannot show this: {type(error).__name__}") from error
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


@cache
def load_tokenizer(place: str) -> LocalTokenizer:
    """The tokenizer in a folder, or of a ``tokenizer.json``.

    Raises:
        NoTemplate: it is not there, has no chat template, or what reads it is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise NoTemplate("reading it needs the package 'tokenizers'") from error
    path = Path(place).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        config: Json = _read_config(file.with_name("tokenizer_config.json"))
        template = _compile(_template_text(file, config))
        tokenizer = Tokenizer.from_file(str(file))
    except NoTemplate:
        raise
    except Exception as error:  # the package raises nothing narrower
        raise NoTemplate(f"{file} cannot be read: {error}") from error
    return LocalTokenizer(tokenizer, template, {name: _text_of(config.get(name)) for name in _NAMED})


def _read_config(file: Path) -> Json:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _template_text(file: Path, config: Json) -> str:
    beside = file.with_name("chat_template.jinja")
    if beside.exists():
        return beside.read_text(encoding="utf-8")
    template: Any = config.get("chat_template")
    if isinstance(template, list):
        named = {each["name"]: each["template"] for each in cast("list[Json]", template)}
        template = named.get("default")
    if not isinstance(template, str):
        raise NoTemplate(f"there is no chat template beside {file}")
    return template


def _compile(text: str) -> Template:
    try:
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise NoTemplate("chat templates need the extra 'templates': pip install 'antiphon[templates]'") from error
    environment: Any = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return environment.from_string(text)


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def _now(format: str) -> str:
    return datetime.now().strftime(format)


def _with_objects(message: Json) -> Json:
    """The message with the arguments of its calls as objects, as servers give them to templates."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    return message | {"tool_calls": [call | {"function": _read_arguments(call["function"])} for call in calls]}


def _read_arguments(function: Json) -> Json:
    return function | {"arguments": json.loads(function["arguments"])}


def _text_of(token: Any) -> str:
    return cast(Json, token).get("content", "") if isinstance(token, dict) else token or ""

"""Values that a weak model made up: what nobody said and no result holds. Pure.

Much of what a model may rightly write was never said like that: a sum, a date, a code, a summary. So only short plain
texts are looked at, and a word counts as said if one that begins like it was.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias, cast

from antiphon.wire import Json
from antiphon.wire.items import content_texts
from antiphon.wire.pointers import look_up, steps_of

Verdict: TypeAlias = "bool | None"
"""Whether a value was said; None where that cannot be known."""

_WORD: Final = re.compile(r"\w+")
_ALIKE: Final = 4
"""Words that begin with so many letters alike are forms of one word."""
_WORDS_MAX: Final = 4
"""A text of more words was composed."""
_CODE: Final = re.compile(r"[A-Z0-9_./-]{1,6}")
"""A currency, a ticker, a country: the model may know it."""
_ADDRESS: Final = re.compile(r"[^\s@]+@[^\s@]+")
_DATE: Final = re.compile(r"\d{1,4}([-./])\d{1,2}\1\d{1,4}")
_NUMBER: Final = re.compile(r"[A-Za-z#+(]{0,4}\d[\d\s().+-]*")
_NUMBER_DIGITS: Final = 5
"""A number of so many digits names somebody or something."""
_SHARE: Final = 0.5
"""How much of an optional text has to have been said."""
_IDS: Final = re.compile(r"(?:^|_)(?:id|no|number)$|[a-z](?:Id|ID|No|Number)$")
"""How members are called whose whole numbers name somebody or something."""
_IN_WORDS_MAX: Final = 99
"""Numbers up to this one may have been said in words."""
_MAIL: Final = re.compile(r"(?:\Ae[ -]?mails?|\be[ -]?mail address(?:es)?)\Z", re.IGNORECASE)
_PHONE: Final = re.compile(r"(?:\A(?:tele)?phones?|\b(?:phone|mobile) (?:numbers?|no))\Z", re.IGNORECASE)
"""Names of members that are an address or a number."""
_MAIL_DESCRIBED: Final = re.compile(r"\be-?mail address", re.IGNORECASE)
_PHONE_DESCRIBED: Final = re.compile(r"\b(?:phone|mobile) number", re.IGNORECASE)
"""The same of their descriptions."""
_MAILS: Final = re.compile(r"\be?[ -]?mail", re.IGNORECASE)
_PHONES: Final = re.compile(
    r"phone|\bcall\b|\b(?:dial|ring|sms|whatsapp|fax)|\btext message|\bsend (?:a )?text", re.IGNORECASE
)
"""What functions do to whom a bare recipient or number belongs."""
_HUMP: Final = re.compile(r"_|(?<=[a-z])(?=[A-Z])")
_RECIPIENTS: Final = frozenset(("to", "cc", "bcc", "recipient", "recipients"))
_COMBINING: Final = frozenset(("$ref", "anyOf", "oneOf", "allOf"))
_REFERENCES_MAX: Final = 8
"""How many references in a row are followed."""
_WHOLE_LETTERS: Final = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ı": "i", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th"}
)
"""Letters of Latin script that are no letter with an accent, and how they are written without."""
_FOREIGN: Final = "\u0370"
"""From this letter on, what is said is not spelled like what is called."""


class Transcript:
    """What has been said in a context, by whomever."""

    def __init__(self, items: Sequence[Json], instructions: str | None = None) -> None:
        self.text = _fold("\n".join((instructions or "", *_texts(items))))
        self._digits = re.sub(r"\D", "", self.text)
        self._begins = frozenset(word[:_ALIKE] for word in _WORD.findall(self.text))
        self._is_partial = any(_has_pictures(item) for item in items)
        self._is_foreign = any(letter >= _FOREIGN and letter.isalpha() for letter in self.text)

    def knows(self, value: Any) -> Verdict:
        """Whether the value was said, or what it is made of."""
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, int | float):
            written = str(value) if isinstance(value, int) else f"{value:.15g}"
            return re.sub(r"\D", "", written) in self._digits or None
        known = self._knows_text(value) if isinstance(value, str) else None
        return None if known is False and self._is_partial else known

    def knows_id(self, value: int) -> Verdict:
        """The same of a whole number that names somebody or something."""
        known = self.knows(value)
        return known if known or self._is_partial or abs(value) <= _IN_WORDS_MAX else False

    def _knows_text(self, value: str) -> Verdict:
        value = value.strip()
        if is_name(value):
            return self._knows_name(value)
        if share := self.share(value):
            return True
        is_plain = any(map(str.isalpha, value)) and not _CODE.fullmatch(value)
        is_short = share is not None and len(_WORD.findall(value)) <= _WORDS_MAX
        return False if is_plain and is_short and not self._is_foreign else None

    def share(self, value: str) -> float | None:
        """Which part of the words of a text was said, from 0 to 1; None where there are none. Short ones count where
        there are no others.
        """
        words = _WORD.findall(_fold(value))
        words = [word for word in words if len(word) >= _ALIKE or word.isdigit()] or words
        return sum(word[:_ALIKE] in self._begins for word in words) / len(words) if words else None

    def _knows_name(self, value: str) -> bool:
        if "@" in value:
            return all(part in self.text for part in _fold(value).split("@"))
        return re.sub(r"\D", "", _fold(value))[-_NUMBER_DIGITS:] in self._digits


def is_name(value: str) -> bool:
    """Whether the text is an address or a number that stands for somebody or something: one that is not known cannot
    be guessed.
    """
    if _ADDRESS.fullmatch(value):
        return True
    digits = sum(letter.isdigit() for letter in value)
    return digits >= _NUMBER_DIGITS and bool(_NUMBER.fullmatch(value)) and not _DATE.fullmatch(value)


def find_invented(arguments: Json, schema: Json, transcript: Transcript, does: str = "") -> str | None:
    """The member with an address or number that nobody has said, or with none where one has to be; None where there is
    no such member.

    Args:
        does: name and description of the function.
    """
    for name, value, spec in _leaves("", arguments, schema, schema):
        if _is_named(spec):
            continue
        verdict = transcript.knows_id(value) if _IDS.search(name) and type(value) is int else transcript.knows(value)
        if _is_amiss(name, value, spec, does) or (verdict is False and (isinstance(value, int) or is_name(value))):
            return name
    return None


def is_unspoken(arguments: Json, schema: Json, transcript: Transcript) -> bool:
    """Whether a call is about something that nobody spoke of. Much that a call is rightly about was never said like
    that, so this is no reason to refuse just any.
    """
    leaves = _leaves("", arguments, schema, schema)
    verdicts = [transcript.knows(value) for _, value, spec in leaves if not _is_named(spec)]
    return False in verdicts and True not in verdicts


def _is_amiss(name: str, value: Any, spec: Json, does: str) -> bool:
    """Whether a text stands where an e-mail address or a phone number has to, and is none. To whom something is mailed
    may be told by name, but not by a number.
    """
    if not isinstance(value, str) or not value:
        return False
    if name in _RECIPIENTS and _MAILS.search(_in_words(does)):
        return "@" not in value and not any(map(str.isalpha, value))
    words, description = _in_words(name), str(spec.get("description") or "")
    if _MAIL.search(words) or _MAIL_DESCRIBED.search(description):
        return "@" not in value
    is_called = name == "number" and _PHONES.search(_in_words(does))
    is_phone = is_called or _PHONE.search(words) or _PHONE_DESCRIBED.search(description)
    return bool(is_phone) and not any(map(str.isdigit, value))


def _in_words(name: str) -> str:
    """A name as its words, whatever joins them."""
    return _HUMP.sub(" ", name)


def _is_named(spec: Json) -> bool:
    """Whether the schema itself says what there may be."""
    return "enum" in spec or "const" in spec


def drop_invented(arguments: Json, schema: Json, transcript: Transcript) -> Json:
    """Without optional texts, and numbers that name something, that nobody said."""
    required: Any = schema.get("required") or ()
    properties: Any = schema.get("properties")
    specs = cast(Json, properties) if isinstance(properties, dict) else {}
    return {
        name: value
        for name, value in arguments.items()
        if name in required or not _is_made_up(name, value, _resolve(specs.get(name), schema), transcript)
    }


def _is_made_up(name: str, value: Any, spec: Json, transcript: Transcript) -> bool:
    given: Any = spec.get("type")
    kinds = cast("list[Any]", given) if isinstance(given, list) else [given]
    if _is_named(spec):
        return False
    if "integer" in kinds and type(value) is int:
        return bool(_IDS.search(name)) and transcript.knows_id(value) is False
    if "string" not in kinds or not isinstance(value, str):
        return False
    if _DATE.fullmatch(value):
        return not any(part in transcript.text for part in re.findall(r"\d+", _fold(value)))
    if transcript.knows(value) is True and not is_name(value):
        return len(_WORD.findall(value)) <= _WORDS_MAX and (transcript.share(value) or 0) < _SHARE
    return transcript.knows(value) is False


def _leaves(name: str, value: Any, schema: Any, root: Json) -> Iterator[tuple[str, Any, Json]]:
    """The single values in some arguments, each with the name of its member and its schema."""
    spec = _resolve(schema, root)
    if isinstance(value, dict):
        properties: Any = spec.get("properties")
        known = cast(Json, properties) if isinstance(properties, dict) else {}
        for name, one in cast(Json, value).items():
            yield from _leaves(name, one, known.get(name), root)
    elif isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _leaves(name, one, spec.get("items"), root)
    else:
        yield name, value, spec


def _resolve(schema: Any, root: Json) -> Json:
    """What a schema comes to that refers to another one, or says that there may be something or ``null``: so the types
    of programs are written.
    """
    spec = cast(Json, schema) if isinstance(schema, dict) else {}
    for _ in range(_REFERENCES_MAX):
        combined: list[Any] = [_follow(spec["$ref"], root)] if "$ref" in spec else []
        for branches in (spec.get(keyword) for keyword in ("anyOf", "oneOf", "allOf")):
            combined += cast("list[Any]", branches) if isinstance(branches, list) else ()
        combined = [branch for branch in combined if branch != {"type": "null"}]
        if len(combined) != 1 or not isinstance(combined[0], dict):
            break
        spec = cast(Json, combined[0]) | {name: value for name, value in spec.items() if name not in _COMBINING}
    return spec


def _follow(reference: Any, root: Json) -> Any:
    """The definition that is referred to; None where there is none."""
    is_within = isinstance(reference, str) and reference.startswith("#/")
    return look_up(root, steps_of(reference[1:])) if is_within else None


def _texts(items: Iterable[Json]) -> Iterator[str]:
    for item in items:
        yield from content_texts(item.get("content"))
        yield from content_texts(item.get("output"))


def _has_pictures(item: Json) -> bool:
    """Whether it shows what is not read here."""
    shown: Any = item.get("output") if item.get("content") is None else item.get("content")
    parts = cast("list[Any]", shown) if isinstance(shown, list) else []
    return any(isinstance(part, dict) and "text" not in part for part in parts)


def _fold(text: str) -> str:
    """Without case and accents, and with the digits of any script as those of this one."""
    if text.isascii():
        return text.casefold()
    plain = unicodedata.normalize("NFKD", text.casefold().translate(_WHOLE_LETTERS))
    return "".join(str(unicodedata.decimal(letter, letter)) for letter in plain if not unicodedata.combining(letter))

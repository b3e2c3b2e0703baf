"""Rules that want somebody to look before a computer call is done: secrets that it would type, and where it acts.

They are simple and can be known: they catch what looks like a card number or a key, not what is meant. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec

from antiphon.wire import Json
from antiphon.wire.items import content_parts

SENSITIVE_INPUT: Final = "sensitive_input"
SENSITIVE_DOMAIN: Final = "sensitive_domain"
IRRELEVANT_DOMAIN: Final = "irrelevant_domain"

_CARD: Final = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?!\w|\.\d)")
_SECRETS: Final = (
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    (
        "an API key",
        re.compile(r"\b(sk|rk|pk_live|sk_live)[-_][A-Za-z0-9_-]{16,}|\bAIza[\w-]{30,}|\bAKIA[0-9A-Z]{16}\b"),
    ),
    ("an access token", re.compile(r"\b(gh[opsu]_\w{30,}|github_pat_\w{30,}|xox[abpr]-[\w-]{10,})")),
    ("a signed token", re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),
    ("a social security number", re.compile(r"\b(?!000|666|9\d\d)\d{3}-(?!00)\d\d-(?!0000)\d{4}\b")),
)
_URL: Final = re.compile(r"https?://[^\s<>\"'`()\[\]{}]+", re.IGNORECASE)
_NAME: Final = re.compile(r"\b(?:[a-z0-9-]+\.)+[a-z]{2,}\b", re.IGNORECASE)
_ACTING: Final = frozenset(("click", "double_click", "drag", "keypress", "type"))
_HERE: Final = frozenset(("localhost", "127.0.0.1", "::1"))


class Place(msgspec.Struct, frozen=True):
    """Where a computer acts, as far as its caller says.

    Attributes:
        url: the page that its next actions are for; empty where that is not known.
        hosts: what the task names, ``HOST`` or ``HOST:PORT``; none where it names no page.
    """

    url: str = ""
    hosts: frozenset[str] = frozenset()


def place_of(items: Iterable[Json], instructions: str | None = None) -> Place:
    """The place, from a context's items: the latest ``current_url`` of a computer's outputs, and the pages that people
    spoke of. Once one page is named with its scheme, names alone count too; without one, nothing is named.
    """
    url, texts = "", [instructions or ""]
    for item in items:
        if item["type"] == "message" and item.get("role") != "assistant":
            texts += [part.get("text") or "" for part in content_parts(item)]
        elif item["type"] == "computer_call_output":
            url = item.get("current_url") or url
    text = "\n".join(texts)
    named = {_host(found) for found in _URL.findall(text)} - {""}
    names = frozenset(found.lower() for found in _NAME.findall(text)) if named else frozenset[str]()
    return Place(url, names | named)


def safety_checks(call_id: str, actions: Sequence[Json], place: Place = Place()) -> list[Json]:
    """The ``pending_safety_checks`` of a computer call, ``{"id", "code", "message"}`` each.

    Args:
        call_id: of the call.
        actions: what it would do, as the API has them.
        place: where.
    """
    found = [*_find_secrets(actions, place.url), *_find_misplaced(actions, place)]
    name = call_id.removeprefix("call_")
    return [{"id": f"cu_sc_{name}_{n}", "code": code, "message": text} for n, (code, text) in enumerate(found)]


def _find_secrets(actions: Sequence[Json], url: str) -> Iterator[tuple[str, str]]:
    """What in the typed texts is secret; they are read together, as one may be typed in pieces."""
    text = "".join(str(action.get("text") or "") for action in actions if action.get("type") == "type")
    secrets = [name for name, pattern in _SECRETS if pattern.search(text)]
    if any(_is_card(match[0]) for match in _CARD.finditer(text)):
        secrets.insert(0, "a card number")
    for name in secrets:
        yield SENSITIVE_INPUT, f"The model wants to type what looks like {name}."
    if secrets and url and _is_open(url):
        yield SENSITIVE_DOMAIN, f"The page is not encrypted: {_origin(url)}."


def _find_misplaced(actions: Sequence[Json], place: Place) -> Iterator[tuple[str, str]]:
    """Whether something is done on a page where it was not to be. Looking at one is no matter."""
    acting = any(action.get("type") in _ACTING for action in actions)
    if acting and place.url and place.hosts and not _is_named(place.url, place.hosts):
        yield IRRELEVANT_DOMAIN, f"The model wants to act on a page that the task did not name: {_origin(place.url)}."


def _is_named(url: str, hosts: Collection[str]) -> bool:
    """Whether a page is of one of the hosts, or of a part of one; a host that is named without a port has all."""
    host = _host(url)
    if not host:
        return True  # an empty page, or a file
    bare = host.partition(":")[0]
    return any(each in (host, bare) or host.endswith(f".{each}") or bare.endswith(f".{each}") for each in hosts)


def _host(url: str) -> str:
    """``HOST``, with the port if there is one; empty where it is no address."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    return f"{(parts.hostname or '').rstrip('.')}{port}"


def _is_card(text: str) -> bool:
    """Whether digits pass the check that card numbers pass (Luhn's)."""
    digits = [int(digit) for digit in text if digit.isdigit()][::-1]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_open(url: str) -> bool:
    return url.lower().startswith("http://") and _host(url).rpartition(":")[0] not in _HERE and _host(url) not in _HERE


def _origin(url: str) -> str:
    return f"{url.partition(':')[0].lower()}://{_host(url)}"

"""Rules that want somebody to look before a computer call is done: secrets that it would type, and where it acts.

They are simple and can be known: they catch what looks like a card number or a key, not what is meant. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from antiphon.wire import Json

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
_ACTING: Final = frozenset(("click", "double_click", "drag", "keypress", "type"))
_HERE: Final = frozenset(("localhost", "127.0.0.1", "::1"))


def safety_checks(
    call_id: str, actions: Sequence[Json], *, url: str | None = None, origins: Collection[str] | None = None
) -> list[Json]:
    """The ``pending_safety_checks`` of a computer call, ``{"id", "code", "message"}`` each.

    Args:
        call_id: of the call.
        actions: what it would do, as the API has them.
        url: the page that they are for, where it is known.
        origins: where the task is to be done, such as ``https://shop.example``; None if that was not said.
    """
    found = [*_typed(actions, url), *_placed(actions, url, origins)]
    name = call_id.removeprefix("call_")
    return [{"id": f"cu_sc_{name}_{n}", "code": code, "message": text} for n, (code, text) in enumerate(found)]


def _typed(actions: Sequence[Json], url: str | None) -> Iterator[tuple[str, str]]:
    """What in the typed texts is secret; they are read together, as one may be typed in pieces."""
    text = "".join(str(action.get("text") or "") for action in actions if action.get("type") == "type")
    secrets = [name for name, pattern in _SECRETS if pattern.search(text)]
    if any(_is_card(match[0]) for match in _CARD.finditer(text)):
        secrets.insert(0, "a card number")
    for name in secrets:
        yield SENSITIVE_INPUT, f"The model wants to type what looks like {name}."
    if secrets and url and _is_open(url):
        yield SENSITIVE_DOMAIN, f"The page is not encrypted: {_origin(url)}."


def _placed(actions: Sequence[Json], url: str | None, origins: Collection[str] | None) -> Iterator[tuple[str, str]]:
    """Whether something is done on a page where it was not to be. Looking at one is no matter."""
    acting = any(action.get("type") in _ACTING for action in actions)
    if acting and url and origins is not None and _origin(url) not in {_origin(origin) for origin in origins}:
        yield IRRELEVANT_DOMAIN, f"The model wants to act on a page that the task did not name: {_origin(url)}."


def _is_card(text: str) -> bool:
    """Whether digits pass the check that card numbers pass (Luhn's)."""
    digits = [int(digit) for digit in text if digit.isdigit()][::-1]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[1::2]]
    return len(set(digits)) > 1 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_open(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in _HERE


def _origin(url: str) -> str:
    parts: Any = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"

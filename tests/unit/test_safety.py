"""The rules that want somebody to look before a computer call is done."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.tools.safety import safety_checks


def typed(*texts: str, **more: Any) -> list[str]:
    checks = safety_checks("call_1", [{"type": "type", "text": text} for text in texts], **more)
    return [check["message"] for check in checks]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("4111 1111 1111 1111", "a card number"),
        ("card: 5500-0000-0000-0004.", "a card number"),
        ("378282246310005", "a card number"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nx", "a private key"),
        ("sk-proj-abcdefghijklmnop1234", "an API key"),
        ("AKIAIOSFODNN7EXAMPLE", "an API key"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "an access token"),
        ("xoxb-1234567890-abc", "an access token"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N", "a signed token"),
        ("078-05-1120", "a social security number"),
    ],
)
def test_what_looks_secret_is_not_typed_unseen(text: str, what: str) -> None:
    assert typed(text) == [f"The model wants to type what looks like {what}."]
    half = len(text) // 2
    assert typed(text[:half], text[half:]) == typed(text), "in pieces, too"


@pytest.mark.parametrize(
    "text",
    [
        "", "Ada Lovelace", "4111 1111 1111 1112", "0000 0000 0000 0000", "2026-11-28", "+49 30 123456",
        "3.14159265358979", "sk-short", "000-12-3456", "order 12345678", "0x4111111111111111abc",
    ],
)  # fmt: skip
def test_what_does_not_is_no_matter(text: str) -> None:
    assert typed(text) == []


def test_only_what_is_typed_counts() -> None:
    assert safety_checks("call_1", [{"type": "keypress", "keys": ["4111111111111111"]}, {"type": "screenshot"}]) == []


def test_a_secret_on_a_page_that_is_not_encrypted_is_told_too() -> None:
    card = "4111111111111111"
    assert typed(card, url="http://shop.example/pay?x")[1:] == ["The page is not encrypted: http://shop.example."]
    assert typed(card, url="https://shop.example/pay")[1:] == []
    assert typed(card, url="http://127.0.0.1:8000/")[1:] == []
    assert typed("Ada", url="http://shop.example/") == []


def test_acting_on_a_page_that_the_task_did_not_name_is_told() -> None:
    click = {"type": "click", "button": "left", "x": 1, "y": 1}
    where = {"origins": ["https://shop.example"]}
    (check,) = safety_checks("call_abc", [click], url="https://Evil.example/", **where)
    assert check == {
        "id": "cu_sc_abc_0",
        "code": "irrelevant_domain",
        "message": "The model wants to act on a page that the task did not name: https://evil.example.",
    }
    assert safety_checks("call_abc", [click], url="https://shop.example/cart", **where) == []
    assert safety_checks("call_abc", [{"type": "screenshot"}], url="https://evil.example/", **where) == []
    assert safety_checks("call_abc", [click], url="https://evil.example/") == []
    tricky = safety_checks("call_abc", [click], url="https://shop.example@evil.example/", **where)
    assert [found["code"] for found in tricky] == ["irrelevant_domain"]


@given(st.lists(st.text(max_size=40), max_size=5), st.one_of(st.none(), st.just("http://a.example/")))
def test_any_texts_give_checks_with_ids_of_their_own(texts: list[str], url: str | None) -> None:
    checks = safety_checks("call_1", [{"type": "type", "text": text} for text in texts], url=url, origins=[])
    assert len({check["id"] for check in checks}) == len(checks)

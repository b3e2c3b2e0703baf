"""The rules that want somebody to look before a computer call is done."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.tools.safety import Place, place_of, safety_checks
from antiphon.wire import Json


def typed(*texts: str, url: str = "") -> list[str]:
    checks = safety_checks("call_1", [{"type": "type", "text": text} for text in texts], Place(url))
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


CLICK: Json = {"type": "click", "button": "left", "x": 1, "y": 1}


def said(text: str, role: str = "user") -> Json:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def shown(url: str) -> Json:
    return {"type": "computer_call_output", "call_id": "c", "output": {}, "current_url": url}


def test_acting_on_a_page_that_the_task_did_not_name_is_reported() -> None:
    place = Place("https://Evil.example/", frozenset(("shop.example",)))
    (check,) = safety_checks("call_abc", [CLICK], place)
    assert check == {
        "id": "cu_sc_abc_0",
        "code": "irrelevant_domain",
        "message": "The model wants to act on a page that the task did not name: https://evil.example.",
    }
    assert safety_checks("call_abc", [{"type": "screenshot"}], place) == []


@pytest.mark.parametrize(
    ("task", "url", "told"),
    [
        ("Buy it at https://shop.example/x, please.", "https://shop.example/cart", False),
        ("Buy it at https://shop.example.", "http://www.shop.example/", False),
        ("Buy it at https://shop.example or pay.example.", "https://pay.example/", False),
        ("Buy it at (https://shop.example)", "https://evil.example/", True),
        ("Buy it at https://shop.example", "https://shop.example@evil.example/", True),
        ("Buy it at https://shop.example", "https://notshop.example/", True),
        ("Buy it at https://shop.example", "https://shop.example.evil.example/", True),
        ("Open http://127.0.0.1:8000/", "http://127.0.0.1:8001/", True),
        ("Open http://localhost/", "http://localhost:8001/", False),
        ("Open https://shop.example", "about:blank", False),
        ("Open https://shop.example", "https://[::1", False),
        ("Open https://shop.example", "", False),
        ("Run hello.py.", "https://evil.example/", False),
    ],
)
def test_a_page_is_named_by_its_host(task: str, url: str, told: bool) -> None:
    checks = safety_checks("call_abc", [CLICK], place_of([said(task), shown(url)]))
    assert [check["code"] for check in checks] == ["irrelevant_domain"] * told


def test_the_place_is_the_latest_page_and_what_people_said_of_it() -> None:
    items = [
        said("Go to https://a.example."),
        shown("https://a.example/1"),
        said("Shall I go to https://b.example?", "assistant"),
        shown("https://b.example/"),
        {"type": "computer_call_output", "call_id": "c", "output": {}},
    ]
    assert place_of(items, "Stay at https://c.example:444/x.") == Place(
        "https://b.example/", frozenset(("a.example", "c.example", "c.example:444"))
    )


@given(st.lists(st.text(max_size=40), max_size=5), st.text(max_size=20).map("http://a.example/".__add__), st.text())
def test_any_texts_give_checks_with_ids_of_their_own(texts: list[str], url: str, task: str) -> None:
    place = place_of([said(f"https://{task} {url}"), shown(url)])
    checks = safety_checks("call_1", [{"type": "type", "text": text} for text in texts], place)
    assert len({check["id"] for check in checks}) == len(checks)

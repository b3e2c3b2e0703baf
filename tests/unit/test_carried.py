"""What rides in the ids of calls."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
import pytest

from antiphon.models.chat.carried import Aside, load, unload
from antiphon.wire.values import CALL_ID_CHARS_MAX

ASIDE = Aside({"google": {"thought_signature": "a/+="}}, [{"type": "reasoning.encrypted", "data": "b"}])


@pytest.mark.parametrize("own", ["a", "ping:0", "a__with__", "__with__", "a__with__e30=", load("b", ASIDE, "")])
@pytest.mark.parametrize("aside", [ASIDE, Aside(), Aside({"x": 1})])
def test_what_is_loaded_is_unloaded(own: str, aside: Aside) -> None:
    assert unload(load(own, aside, "made")) == (own, aside)


def test_a_call_without_an_id_gets_one_where_it_has_to_carry_something() -> None:
    assert unload(load("", ASIDE, "made")) == ("made", ASIDE)
    assert load("", Aside(), "made") == ""


def test_what_cannot_be_carried_is_left() -> None:
    assert load("a", Aside({"x": "y" * CALL_ID_CHARS_MAX}), "made") == "a"
    assert load("a", Aside({"x": "\ud83d"}), "made") == "a"
    assert load("a", Aside(nested(99)), "made") == "a"


def nested(depth: int) -> Any:
    return {"x": nested(depth - 1)} if depth else {}


def packed(data: bytes) -> str:
    return f"a__with__{b64encode(data).decode()}"


@pytest.mark.parametrize(
    "id",
    [
        "a",
        "",
        "a__with__?",
        "a__with__\u00e9",
        packed(b"x"),
        packed(b"7"),
        packed(b'{"reasoning_details": [7]}'),
        packed(b"[" * 9999),
        packed(msgspec.json.encode(Aside(nested(99)))),
    ],
)
def test_ids_of_anybodys_own(id: str) -> None:
    assert unload(id) == (id, Aside())

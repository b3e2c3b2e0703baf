"""What a JSON pointer leads to."""

from typing import Any

import pytest

from antiphon.wire.pointers import look_up, steps_of

ROOT = {"a": {"b/c": 1, "d~": [2, {"e f": 3}]}, "": 4, "7": 5}


@pytest.mark.parametrize(
    ("pointer", "found"),
    [
        ("", ROOT),
        ("/", 4),
        ("/7", 5),
        ("/a/b~1c", 1),
        ("/a/d~0/0", 2),
        ("/a/d~0/1/e%20f", 3),
        ("/a/d~0/2", None),
        ("/a/d~0/-1", None),
        ("/a/d~0/99999999", None),
        ("/a/d~0/x/0", None),
        ("/a/b~1c/x", None),
        ("/none/x", None),
    ],
)
def test_a_pointer_leads_to_what_stands_there(pointer: str, found: Any) -> None:
    assert look_up(ROOT, steps_of(pointer)) == found

"""Files that any model can be shown: text, given in place."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from antiphon.wire import Json

_TYPES: Final = ("data:text/", "data:application/json")


def file_text(part: Json) -> str | None:
    """The text in an ``input_file``'s ``file_data``, which is a data URL in base64; None when there is none to show."""
    head, _, data = str(part.get("file_data") or "").partition(",")
    if not head.startswith(_TYPES) or not head.endswith(";base64"):
        return None
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None

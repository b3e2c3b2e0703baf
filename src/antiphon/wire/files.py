"""Files and uploads as they cross the API. Source: the official SDK's types and the limits of the API's document."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta

from antiphon.wire import Id, Json
from antiphon.wire.errors import InvalidRequest
from antiphon.wire.paging import ListPage
from antiphon.wire.validation import check
from antiphon.wire.values import StrictStruct

T = TypeVar("T")

PARTS_MAX = 10_000
FILENAME_CHARS_MAX = 512
_DIGITS_MAX = 20
_STEERING = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")

Purpose: TypeAlias = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
Seconds: TypeAlias = Annotated[int, Meta(ge=3600, le=2_592_000)]


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file; times in Unix seconds."""

    id: Id
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(ListPage[FileObject], frozen=True):
    """A page of files."""


class FileDeleted(msgspec.Struct, frozen=True):
    """What is gone."""

    id: Id
    object: Literal["file"] = "file"
    deleted: bool = True


class UploadObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file that comes in parts; ``file`` once it is complete."""

    id: Id
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | None = None


class UploadPartObject(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an upload."""

    id: Id
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: Id


class FileExpiry(StrictStruct):
    """How long a file is kept, from when it is made."""

    anchor: Literal["created_at"]
    seconds: Seconds


class FileForm(StrictStruct, kw_only=True):
    """The fields of ``POST /v1/files`` beside the file."""

    purpose: Purpose
    expires_after: FileExpiry | None = None


class NewUpload(StrictStruct, kw_only=True):
    """The body of ``POST /v1/uploads``."""

    bytes: Annotated[int, Meta(ge=0)]
    filename: Annotated[str, Meta(min_length=1, max_length=FILENAME_CHARS_MAX)]
    mime_type: Annotated[str, Meta(max_length=256)]
    purpose: Purpose
    expires_after: FileExpiry | None = None


class CompletedUpload(StrictStruct, kw_only=True):
    """The body of ``POST /v1/uploads/{upload_id}/complete``."""

    part_ids: Annotated[list[str], Meta(min_length=1, max_length=PARTS_MAX)]
    md5: str | None = None


class FileListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of ``GET /v1/files``."""

    after: str | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 10_000
    order: Literal["asc", "desc"] = "desc"
    purpose: str | None = None


def plain_name(name: str) -> str:
    """A file's name without the folders that it may be in, and without characters that steer a terminal or turn the
    direction of a text.
    """
    return _STEERING.sub("_", name.replace("\\", "/").rpartition("/")[2])


def file_form(fields: Mapping[str, str], *, strict: bool) -> tuple[FileForm, tuple[str, ...]]:
    """The form's fields; ``expires_after[anchor]`` and ``expires_after[seconds]`` are one object. Beside it the names
    of those that no document knows.

    Raises:
        InvalidRequest: the first thing wrong.
    """
    raw: Json = {}
    expiry: Json = {}
    for name, value in fields.items():
        if name.startswith("expires_after[") and name.endswith("]"):
            member = name[len("expires_after[") : -1]
            is_number = member == "seconds" and value.isdecimal() and len(value) <= _DIGITS_MAX
            expiry[member] = int(value) if is_number else value
        else:
            raw[name] = value
    if expiry:
        raw["expires_after"] = expiry
    return check(raw, FileForm, strict=strict)


def body_of(body: object, kind: type[T], *, strict: bool, keep_null: Sequence[str] = ()) -> tuple[T, tuple[str, ...]]:
    """A body as one of our structs, and the paths of members that no document knows; ``null`` means absent, but for the
    members in ``keep_null``.

    Raises:
        InvalidRequest: the first thing wrong.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("Invalid body: expected a JSON object.", code="invalid_type")
    raw: Json = {key: value for key, value in body.items() if value is not None or key in keep_null}  # pyright: ignore
    return check(raw, kind, strict=strict)

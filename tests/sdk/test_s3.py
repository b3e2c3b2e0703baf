"""Files in an S3 bucket, by the protocol itself: kept, read, searched, deleted; refused and unreachable; cut off."""

import hashlib
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from s3_server import S3, s3_server

from antiphon.config import Config
from antiphon.files.blobs import BlobMissing, RemoteBlobs
from antiphon.models.scripted import ScriptedModel
from antiphon.store import StoreUnavailable
from antiphon.testing.serving import serving

pytest.importorskip("s3fs", reason="the extra s3 is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:botocore", "ignore::DeprecationWarning:aiobotocore")

BIG = bytes(range(256)) * (51 << 12)
"""51 MiB: above what is sent in one request."""


def blobs_of(s3: S3, owner: str = "us") -> RemoteBlobs:
    url = f"s3://bucket-{uuid.uuid4().hex}/folder"
    quick = {"retries": {"max_attempts": 1}, "connect_timeout": 2, "read_timeout": 10}
    options = {"endpoint_url": s3.url, "key": "key", "secret": "secret", "config_kwargs": quick}
    return RemoteBlobs(url, options | {"skip_instance_cache": True}, owner)


@asynccontextmanager
async def client_of(blobs: RemoteBlobs) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(ScriptedModel("x"), blobs=blobs, config=Config(upload_bytes_max=1 << 30)) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    """A server of the little S3; with ``ANTIPHON_TEST_S3`` one that listens there."""
    async with s3_server() as served:
        served.url = os.environ.get("ANTIPHON_TEST_S3", served.url)
        yield served


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def broken() -> AsyncIterator[bytes]:
    yield b"begun"
    raise ConnectionResetError("the caller has left")


async def whole(blobs: RemoteBlobs, name: str) -> bytes:
    return b"".join([piece async for piece in blobs.read(name)])


async def test_bytes_come_and_go(s3: S3) -> None:
    blobs = blobs_of(s3)
    assert await blobs.settle() and await blobs.names() == []
    assert await blobs.put("file-1", pieces(b"some ", b"words")) == 10
    assert await blobs.put("file-0", pieces()) == 0
    assert await blobs.put("file-2", pieces(BIG)) == len(BIG)
    assert await whole(blobs, "file-1") == b"some words" and await whole(blobs, "file-0") == b""
    assert hashlib.sha256(await whole(blobs, "file-2")).digest() == hashlib.sha256(BIG).digest()
    with pytest.raises(ConnectionResetError):
        await blobs.put("file-3", broken())
    assert sorted(await blobs.names()) == ["file-0", "file-1", "file-2"], "what broke off is not there in part"
    for _ in range(2):
        await blobs.delete("file-1")
    with pytest.raises(BlobMissing):
        await whole(blobs, "file-1")


async def test_files_uploads_and_search(s3: S3) -> None:
    blobs = blobs_of(s3)
    async with client_of(blobs) as client:
        store = await client.vector_stores.create()
        file = await client.vector_stores.files.upload_and_poll(
            vector_store_id=store.id, file=("a.md", b"# Lemons\n\nWater them twice a week.")
        )
        assert file.status == "completed"
        assert [hit.file_id for hit in (await client.vector_stores.search(store.id, query="water")).data] == [file.id]
        assert (await client.files.content(file.id)).content.startswith(b"# Lemons")
        parts = (b"first ", b"second ", b"third")
        upload = await client.uploads.create(bytes=18, filename="b.txt", mime_type="text/plain", purpose="user_data")
        ids = [(await client.uploads.parts.create(upload.id, data=part)).id for part in parts]
        md5 = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
        done = await client.uploads.complete(upload.id, part_ids=ids, md5=md5)
        assert done.file is not None
        assert (await client.files.content(done.file.id)).content == b"first second third"
        assert sorted(await blobs.names()) == sorted([file.id, done.file.id]), "the parts are gone"
        for id in (file.id, done.file.id):
            await client.files.delete(id)
        assert await blobs.names() == []


@pytest.mark.skipif("ANTIPHON_TEST_S3" in os.environ, reason="another server refuses nothing when it is told to")
async def test_a_bucket_that_refuses(s3: S3) -> None:
    blobs = blobs_of(s3)
    async with client_of(blobs) as client:
        kept = (await client.files.create(file=("a.txt", b"words"), purpose="user_data")).id
        for status, code in ((403, "AccessDenied"), (404, "NoSuchBucket"), (400, "QuotaExceeded")):
            s3.refuses = dict.fromkeys(("PUT", "POST", "HEAD", "DELETE"), (status, code))
            with pytest.raises(openai.InternalServerError) as caught:
                await client.files.create(file=("b.txt", b"words"), purpose="user_data")
            assert caught.value.status_code == 503
        s3.refuses = {"GET": (403, "AccessDenied")}
        with pytest.raises(openai.InternalServerError) as caught:
            await client.files.content(kept)
        assert caught.value.status_code == 503
        file: Any = {"role": "user", "content": [{"type": "input_file", "file_id": kept}]}
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(model="m", input=[file])
        assert caught.value.status_code == 503
        # A deletion that the bucket refuses is done all the same; the sweep removes the bytes.
        s3.refuses = {"DELETE": (403, "AccessDenied")}
        assert (await client.files.delete(kept)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.files.retrieve(kept)
        s3.refuses = {}
        assert await blobs.names() == [kept]


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    s3 = S3()
    s3.url = "http://127.0.0.1:9"
    blobs = blobs_of(s3)
    for work in (blobs.put("a", pieces(b"x")), whole(blobs, "a"), blobs.delete("a"), blobs.names(), blobs.settle()):
        with pytest.raises(StoreUnavailable):
            await work

"""A little S3: buckets, objects, listings and multipart uploads over HTTP, as far as a client of files needs them. What
it answers was held against another implementation of S3 with the same tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from xml.sax.saxutils import escape

from aiohttp import web


class S3:
    """Its state; tests look at it, and make it refuse.

    Attributes:
        objects: by bucket and key.
        refuses: with which status and code requests of a method are answered from now on.
    """

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[str, dict[str, bytes]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.refuses: dict[str, tuple[int, str]] = {}
        self.seen: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Any request."""
        bucket, _, key = request.path.lstrip("/").partition("/")
        self.seen.append(f"{request.method} {'object' if key else 'bucket'}")
        if refused := self.refuses.get(request.method):
            return _error(*refused)
        if not request.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 Credential=key/"):
            return _error(403, "AccessDenied")
        body = await request.read()
        if "STREAMING" in request.headers.get("x-amz-content-sha256", ""):
            body = _unchunk(body)
        if not key:
            return self._bucket(request, bucket)
        if bucket not in self.objects:
            return _error(404, "NoSuchBucket")
        if "uploads" in request.query or "uploadId" in request.query:
            return self._upload(request, bucket, key, body)
        return self._object(request, self.objects[bucket], key, body)

    def _bucket(self, request: web.Request, bucket: str) -> web.Response:
        if request.method == "PUT":
            self.objects.setdefault(bucket, {})
            return web.Response()
        if bucket not in self.objects:
            return _error(404, "NoSuchBucket")
        prefix = request.query.get("prefix", "")
        found = {key: data for key, data in self.objects[bucket].items() if key.startswith(prefix)}
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(data)}</Size><ETag>{_etag(data)}</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for key, data in sorted(found.items())
        )
        counts = f"<KeyCount>{len(found)}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
        return _xml("ListBucketResult", f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>{counts}{rows}")

    def _object(self, request: web.Request, objects: dict[str, bytes], key: str, body: bytes) -> web.Response:
        match request.method:
            case "PUT":
                objects[key] = body
                return web.Response(headers={"ETag": _etag(body)})
            case "DELETE":
                objects.pop(key, None)
                return web.Response(status=204)
            case _ if key not in objects:
                return _error(404, "NoSuchKey")
            case _:
                data = objects[key]
                headers = {"ETag": _etag(data), "Last-Modified": formatdate(0, usegmt=True)}
                part = request.http_range
                if part.start is None:
                    return web.Response(body=data, headers=headers)
                last = min(len(data), part.stop or len(data))
                headers["Content-Range"] = f"bytes {part.start}-{last - 1}/{len(data)}"
                return web.Response(status=206, body=data[part.start : last], headers=headers)

    def _upload(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        if request.method == "POST" and "uploads" in request.query:
            id = f"upload-{len(self.uploads)}"
            self.uploads[id] = {}
            names = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
            return _xml("InitiateMultipartUploadResult", f"{names}<UploadId>{id}</UploadId>")
        id = request.query["uploadId"]
        if id not in self.uploads:
            return _error(404, "NoSuchUpload")
        if request.method == "PUT":
            self.uploads[id][int(request.query["partNumber"])] = body
            return web.Response(headers={"ETag": _etag(body)})
        parts = self.uploads.pop(id)
        if request.method == "DELETE":
            return web.Response(status=204)
        whole = self.objects[bucket][key] = b"".join(parts[number] for number in sorted(parts))
        return _xml("CompleteMultipartUploadResult", f"<Key>{escape(key)}</Key><ETag>{_etag(whole)}</ETag>")


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _xml(name: str, inside: str) -> web.Response:
    text = f'<?xml version="1.0"?><{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{name}>'
    return web.Response(text=text, content_type="application/xml")


def _error(status: int, code: str) -> web.Response:
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return web.Response(status=status, text=text, content_type="application/xml")


def _unchunk(body: bytes) -> bytes:
    """What stands in the chunks of a body that is signed piece by piece."""
    out = bytearray()
    while body:
        head, _, rest = body.partition(b"\r\n")
        size = int(head.partition(b";")[0] or b"0", 16)
        if not size:
            break
        out += rest[:size]
        body = rest[size + 2 :]
    return bytes(out)


@asynccontextmanager
async def s3_server() -> AsyncIterator[S3]:
    """One that listens on this machine."""
    s3 = S3()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", s3.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    s3.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield s3
    finally:
        await runner.cleanup()

"""Uploads from strangers: forms of any shape, names of any kind, parts without an end, and a disk that is full."""

import asyncio
import errno
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from antiphon.config import Config
from antiphon.files import blobs
from antiphon.files.blobs import LocalBlobs
from antiphon.models import Prompt
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

FORM = {"content-type": "multipart/form-data; boundary=B"}
END = b"--B--\r\n"


def part(name: str, value: bytes, filename: bytes | None = None, head: bytes = b"") -> bytes:
    file = b"" if filename is None else b'; filename="%s"' % filename
    return b'--B\r\nContent-Disposition: form-data; name="%s"%s%s\r\n\r\n%s\r\n' % (name.encode(), file, head, value)


PURPOSE, FILE = part("purpose", b"user_data"), part("file", b"hello", b"a.txt")


class Server:
    def __init__(self, url: str, session: aiohttp.ClientSession, folder: Path) -> None:
        self.url, self.session, self.folder = url, session, folder

    async def post(self, path: str, data: bytes | None = None, **json: Any) -> tuple[int, Any]:
        body: Any = {"json": json} if data is None else {"data": io.BytesIO(data), "headers": FORM}
        async with self.session.post(f"{self.url}/{path}", **body) as answer:
            return answer.status, await answer.json()

    async def send_form(self, data: bytes) -> tuple[int, Any]:
        status, answer = await self.post("files", data)
        return status, answer["error"]["message"] if "error" in answer else answer["filename"]

    def kept(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]


@asynccontextmanager
async def served(folder: Path, **config: Any) -> AsyncIterator[Server]:
    kept = LocalBlobs(folder / "files")
    async with (
        serving(ScriptedModel("x"), config=Config(**config), blobs=kept) as url,
        aiohttp.ClientSession() as session,
    ):
        yield Server(url, session, folder / "files")


FORMS = {
    "no end": PURPOSE + FILE,
    "an end in the file": PURPOSE + FILE[:-4],
    "fields of one name": PURPOSE + part("x", b"y") * 1000 + FILE + END,
    "a long field": PURPOSE + part("x", b"y" * 10_000_000) + FILE + END,
    "a long header": PURPOSE + part("x", b"y", head=b"\r\nX: " + b"z" * 5_000_000) + FILE + END,
    "a long name of a header": PURPOSE + part("x", b"y", head=b"\r\n" + b"z" * 5_000_000 + b": a") + FILE + END,
    "many headers": PURPOSE + part("x", b"y", head=b"\r\nX: " * 100_000) + FILE + END,
    "much behind the end": PURPOSE + FILE + END + b"z" * 20_000_000,
    "a number without end": PURPOSE
    + part("expires_after[anchor]", b"created_at")
    + part("expires_after[seconds]", b"9" * 5000)
    + FILE
    + END,
}


async def test_forms_that_are_none_are_refused_in_words_that_arrive(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        for name, form in FORMS.items():
            status, said = await server.send_form(form)
            assert (status, bool(said)) == (400, True), (name, said)
        assert server.kept() == []
        assert await server.send_form(PURPOSE + FILE + END) == (200, "a.txt")


async def test_a_refusal_reaches_a_client_that_still_sends(tmp_path: Path) -> None:
    async with served(tmp_path, file_bytes_max=1000, body_bytes_max=1000) as server:
        file = part("file", b"x" * 30_000_000, b"a")
        assert (await server.send_form(PURPOSE + file + END))[0] == 413
        assert (await server.post("responses", b'"%s"' % (b"x" * 30_000_000)))[0] == 413


async def test_names_of_files_steer_nothing(tmp_path: Path) -> None:
    names = {
        b"../../etc/passwd": "passwd",
        b"..\\x": "x",
        b"a\0b\x1b[2J": "a_b_[2J",
        "\u202eexe.txt".encode(): "_exe.txt",
    }
    async with served(tmp_path) as server:
        for name, kept in names.items():
            assert await server.send_form(PURPOSE + part("file", b"x", name) + END) == (200, kept)
        told: Any = {"bytes": 1, "mime_type": "text/plain", "purpose": "user_data"}
        assert (await server.post("uploads", filename="../a\nb", **told))[1]["filename"] == "a_b"


async def test_an_upload_ends_once_and_has_not_parts_without_end(tmp_path: Path) -> None:
    async with served(tmp_path, upload_bytes_max=10) as server:
        told: Any = {"filename": "a", "mime_type": "text/plain", "purpose": "user_data"}
        _, upload = await server.post("uploads", bytes=6, **told)
        path = f"uploads/{upload['id']}"
        form = part("data", b"abc", b"x") + END
        ids = [(await server.post(f"{path}/parts", form))[1]["id"] for _ in range(3)]
        assert [(await server.post(f"{path}/parts", form))[0] for _ in range(2)] == [400, 400]
        assert len(server.kept()) == 3
        ends = await asyncio.gather(*(server.post(f"{path}/complete", part_ids=ids[:2]) for _ in range(8)))
        assert sorted(status for status, _ in ends) == [200] + [400] * 7
        assert len(server.kept()) == 1


async def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as server:

        def write(handle: int, piece: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as full:
            full.setattr(blobs, "_write", write)
            status, answer = await server.post("files", PURPOSE + FILE + END)
        assert status == 503 and "the disk is full" in answer["error"]["message"]
        assert server.kept() == []
        assert (await server.send_form(PURPOSE + FILE + END))[0] == 200


class Recording(ScriptedModel):
    """Says when it is first asked."""

    def __init__(self, *scripts: Any, again: bool) -> None:
        super().__init__(*scripts, again=again)
        self.asked = asyncio.Event()

    def sample(self, prompt: Prompt) -> Any:
        self.asked.set()
        return super().sample(prompt)


async def test_what_requests_name_shares_the_room_of_bodies(tmp_path: Path) -> None:
    gate = asyncio.Event()
    model = Recording([gate, "Hi."], again=True)
    kept = LocalBlobs(tmp_path / "files")
    config = Config(bodies_bytes_max=4_000_000)
    async with (
        serving(model, config=config, blobs=kept) as url,
        aiohttp.ClientSession() as session,
        asyncio.timeout(60),
    ):
        server = Server(url, session, tmp_path / "files")
        png = b"\x89PNG\r\n\x1a\n" + bytes(2_000_000)
        _, file = await server.post("files", PURPOSE + part("file", png, b"a.png") + END)
        shown = [{"role": "user", "content": [{"type": "input_image", "file_id": file["id"]}]}]
        first = asyncio.create_task(server.post("responses", model="m", input=shown))
        await model.asked.wait()
        status, answer = await server.post("responses", model="m", input=shown)
        assert (status, answer["error"]["code"]) == (503, "too_many_bodies")
        gate.set()
        assert (await first)[0] == 200
        assert (await server.post("responses", model="m", input=shown))[0] == 200

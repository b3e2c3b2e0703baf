"""``antiphon files add`` and ``antiphon search`` against a real server."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress

from antiphon.cli import main
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving


async def test_folders_are_added_once_and_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "docs" / ".git").mkdir(parents=True)
    (tmp_path / "docs" / "lemons.md").write_text("# Care\x9b\n\nLemon trees want water\x1b[2J twice a week.\x07\n")
    (tmp_path / "docs" / "pets.txt").write_text("The cat sleeps all day.\n")
    (tmp_path / "docs" / ".git" / "config").write_text("hidden")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    async with serving(ScriptedModel("x")) as url:

        async def ran(*arguments: str) -> tuple[int, str, str]:
            status = await asyncio.to_thread(main, [*arguments, "--url", url])
            told = capsys.readouterr()
            return status, told.out, told.err

        folder = str(tmp_path / "docs")
        status, out, err = await ran("files", "add", folder, "--store", "kb")
        assert status == 0, err
        assert "2 added, 0 there already, 0 failed" in out
        status, out, _ = await ran("files", "add", folder, "--store", "kb")
        assert status == 0 and "0 added, 2 there already" in out
        (tmp_path / "docs" / "pets.txt").write_text("The dog barks.\n")
        status, out, err = await ran("files", "add", folder, str(tmp_path / "photo.png"), "--store", "kb")
        assert status == 1 and "1 added, 1 there already, 1 failed" in out and "image" in err
        status, out, _ = await ran("search", "kb", "watering lemons")
        assert status == 0 and "lemons.md - Care" in out and "twice a week" in out
        assert not {"\x1b", "\x07", "\x9b"} & set(out), "what a file says does not steer the terminal"
        assert (await ran("search", "kb", "cat"))[1] == "", "what was replaced is gone"
        status, out, _ = await ran("files", "reindex", "--store", "kb")
        assert status == 0 and "2 ingested again, 0 failed" in out
        assert (await ran("files", "reindex", "--store", "nope"))[0] == 1
        assert (await ran("search", "nope", "x"))[0] == 1


class Slow:
    """An embedder that waits from its second batch on, until it may go on."""

    id = model = "slow"
    dimensions = 2

    def __init__(self) -> None:
        self.batches, self.may_go_on = 0, asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Any:
        self.batches += 1
        if self.batches > 1:
            await self.may_go_on.wait()
        return np.ones((len(texts), 2), dtype=np.float32)

    async def close(self) -> None: ...


async def test_what_is_indexed_of_a_single_file_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, loop = Slow(), asyncio.get_running_loop()
    shown: list[dict[str, Any]] = []

    def update(self: Progress, bar: Any, **what: Any) -> None:
        shown.append(what)
        if what["completed"] > 1:
            loop.call_soon_threadsafe(slow.may_go_on.set)

    monkeypatch.setattr(Progress, "update", update)
    path = tmp_path / "long.txt"
    path.write_text("\n\n".join(f"Paragraph {n} tells of lemon number {n}. " * 12 for n in range(100)))
    async with serving(ScriptedModel("x"), embedders=(slow,)) as url:
        async with asyncio.timeout(20):
            assert await asyncio.to_thread(main, ["files", "add", str(path), "--store", "kb", "--url", url]) == 0
    sent, *indexed = shown
    assert (sent["completed"], sent["files"]) == (1, "1/1")
    size = path.stat().st_size
    parts = [each for each in indexed if 0 < each["completed"] < size]
    assert parts and all(each["files"] == "0/1" and not each["rate"].startswith("0.0 ") for each in parts)
    assert (indexed[-1]["completed"], indexed[-1]["files"]) == (size, "1/1")


async def test_a_file_that_cannot_be_sent_keeps_back_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / os.fsdecode(b"bad\xffname.txt")).write_text("x")
    (tmp_path / "good.txt").write_text("Lemon trees want water.")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    async with serving(ScriptedModel("x")) as url:
        status = await asyncio.to_thread(main, ["files", "add", str(tmp_path), "--store", "kb", "--url", url])
    told = capsys.readouterr()
    assert status == 1 and "1 added, 0 there already, 1 failed" in told.out and "cannot be read" in told.err

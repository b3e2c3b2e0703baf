"""Patches on real files: what they keep, what is refused, and that nothing is half done."""

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.client.runners import ApplyPatch, PatchRefused
from antiphon.client.runners.files import FILE_BYTES_MAX
from antiphon.client.sdk.tool_calls import ToolCall
from antiphon.tools import v4a

Patched = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def patch(root: Path, asked: Callable[..., ToolCall]) -> Patched:
    """Applies one operation to the root."""
    runner = ApplyPatch(root)

    def run(kind: str, path: str, diff: str | None = None) -> str:
        operation = {"type": kind, "path": path} | ({} if diff is None else {"diff": diff})
        return runner.run(asked("apply_patch_call", operation=operation))

    return run


def tree(root: Path) -> dict[str, Any]:
    """All there is below a folder: content, mode and time of files, targets of links."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        link = str(path.readlink()) if path.is_symlink() else None
        found[str(path.relative_to(root))] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), content, link)
    return found


@contextlib.contextmanager
def refused(root: Path, why: str) -> Any:
    """Says why, and changes nothing in the folder and beside it."""
    before = tree(root.parent)
    with pytest.raises(PatchRefused) as told:
        yield
    assert why in str(told.value)
    assert tree(root.parent) == before


# What patches do


def test_a_file_is_created_with_its_folders(root: Path, patch: Patched) -> None:
    assert patch("create_file", "a/b/new.py", "+print(1)\n+") == "Created a/b/new.py (1 line)."
    assert (root / "a/b/new.py").read_bytes() == b"print(1)\n"


def test_a_new_file_has_the_mode_that_the_user_gives_files(root: Path, patch: Patched) -> None:
    (root / "usual").touch()
    patch("create_file", "new", "+a")
    assert (root / "new").stat().st_mode == (root / "usual").stat().st_mode


def test_a_file_that_is_there_is_replaced_and_keeps_what_is_not_text(root: Path, patch: Patched) -> None:
    (root / "run.sh").write_bytes(b"\xef\xbb\xbfold\r\nold\r\n")
    (root / "run.sh").chmod(0o750)
    assert patch("create_file", "run.sh", "+new\n+lines\n+") == "Replaced run.sh, which existed (2 lines)."
    assert (root / "run.sh").read_bytes() == b"\xef\xbb\xbfnew\r\nlines\r\n"
    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == 0o750


def test_a_file_that_is_no_text_is_replaced(root: Path, patch: Patched) -> None:
    (root / "a").write_bytes(b"\0\1")
    patch("create_file", "a", "+text")
    assert (root / "a").read_bytes() == b"text"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"a\nb\n", b"a\nc\n"),
        (b"a\nb", b"a\nc"),
        (b"a\r\nb\r\n", b"a\r\nc\r\n"),
        (b"a\r\nb", b"a\r\nc"),
        (b"x\na\r\nb\r\ny\n", b"x\na\r\nc\r\ny\n"),
        (b"\xef\xbb\xbfa\nb\n", b"\xef\xbb\xbfa\nc\n"),
        (b"\xff\xfe\na\nb\n", b"\xff\xfe\na\nc\n"),
        ("é\na\nb\n".encode(), "é\na\nc\n".encode()),
    ],
)
def test_an_update_keeps_all_that_it_does_not_name(root: Path, patch: Patched, before: bytes, after: bytes) -> None:
    (root / "f").write_bytes(before)
    (root / "f").chmod(0o640)
    assert patch("update_file", "f", "@@\n a\n-b\n+c") == "Updated f."
    assert (root / "f").read_bytes() == after
    assert stat.S_IMODE((root / "f").stat().st_mode) == 0o640


def test_a_line_behind_the_byte_order_mark_is_found(root: Path, patch: Patched) -> None:
    (root / "f").write_bytes(b"\xef\xbb\xbfa\n")
    patch("update_file", "f", "-a\n+b")
    assert (root / "f").read_bytes() == b"\xef\xbb\xbfb\n"


def test_a_diff_that_changes_nothing_says_so_and_does_not_write(root: Path, patch: Patched) -> None:
    (root / "f").write_text("a\n")
    before = (root / "f").stat()
    assert patch("update_file", "f", "@@\n a") == "The diff changes nothing: f is as it was."
    assert (root / "f").stat().st_ino == before.st_ino


def test_a_file_is_deleted_and_its_folder_stays(root: Path, patch: Patched) -> None:
    (root / "a").mkdir()
    (root / "a/f").touch()
    assert patch("delete_file", "a/f") == "Deleted a/f."
    assert list(tree(root)) == ["a"]


def test_names_are_taken_as_they_are(root: Path, patch: Patched) -> None:
    for name in ("./a//b/./c", "~", "a b\n", "é", "-rf", "c:d", "*"):
        patch("create_file", name, "+x")
        assert (root / name).read_text() == "x"


# What is refused


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "'' is not a file name"),
        (".", "'.' is not a file name"),
        ("a/", "'a/' is not a file name"),
        ("a\0b", "is not a file name"),
        ("/etc/passwd", "/etc/passwd is absolute"),
        ("//a", "//a is absolute"),
        ("C:\\a", "C:\\a is absolute"),
        ("\\a", "\\a is absolute"),
        ("..", ".. must not contain '..'"),
        ("../outside", "../outside must not contain '..'"),
        ("a/../../outside", "must not contain '..'"),
        ("a/../f", "must not contain '..'"),
        (".git/hooks/pre-commit", "belongs to the version control"),
        ("sub/.GIT/config", "belongs to the version control"),
        ("a" * 300, "File name too long"),
        ("\ud800", "cannot be written in UTF-8"),
        ("folder", "folder is a folder"),
        ("f/g", "f/g cannot be there: a file has the name of one of its folders"),
    ],
)
@pytest.mark.parametrize("kind", ["create_file", "update_file", "delete_file"])
def test_names_that_lead_nowhere_good_are_refused(root: Path, patch: Patched, kind: str, name: str, why: str) -> None:
    (root / "folder").mkdir()
    (root / "f").write_text("a\n")
    (root.parent / "outside").write_text("a\n")
    with refused(root, why):
        patch(kind, name, "+a" if kind == "create_file" else "-a\n+b")


@pytest.mark.parametrize("kind", ["create_file", "update_file", "delete_file"])
@pytest.mark.parametrize("name", ["link", "chain", "out/secret", "out/new/er", "way/in"])
def test_links_that_leave_the_root_are_not_followed(root: Path, patch: Patched, kind: str, name: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "secret").write_text("a\n")
    (outside / "back").symlink_to(root)
    (root / "link").symlink_to(outside / "secret")
    (root / "chain").symlink_to("link")
    (root / "out").symlink_to("../outside")
    (root / "way").symlink_to("../outside/nowhere")
    with refused(root, "leads out of the folder"):
        patch(kind, name, "+a" if kind == "create_file" else "-a\n+b")


def test_links_that_stay_in_the_root_are_followed(root: Path, patch: Patched) -> None:
    (root / "real").mkdir()
    (root / "real/f").write_text("a\n")
    (root / "link").symlink_to("real/f")
    (root / "folder").symlink_to(root / "real")
    patch("update_file", "link", "-a\n+b")
    patch("create_file", "folder/new", "+n")
    assert (root / "real/f").read_text() == "b\n"
    assert (root / "real/new").read_text() == "n"
    assert (root / "link").is_symlink()
    patch("delete_file", "link")
    assert not (root / "link").is_symlink()
    assert (root / "real/f").exists()


def test_links_in_a_circle_are_refused(root: Path, patch: Patched) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with refused(root, "a "):
        patch("update_file", "a", "-a\n+b")


def test_a_link_to_the_root_is_a_folder(root: Path, patch: Patched) -> None:
    (root / "here").symlink_to(".")
    with refused(root, "here is a folder"):
        patch("delete_file", "here")


@pytest.mark.parametrize("kind", ["create_file", "update_file", "delete_file"])
def test_what_is_no_regular_file_is_refused(root: Path, patch: Patched, kind: str) -> None:
    os.mkfifo(root / "pipe")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening, contextlib.chdir(root):
        listening.bind("socket")
        for name in ("pipe", "socket"):
            with refused(root, f"{name} is not a regular file"):
                patch(kind, name, "+a" if kind == "create_file" else "-a\n+b")


def test_what_is_not_there_is_neither_updated_nor_deleted(root: Path, patch: Patched) -> None:
    for kind, name in [("update_file", "f"), ("delete_file", "f"), ("update_file", "a/f"), ("delete_file", "a/f")]:
        with refused(root, f"{name} does not exist."):
            patch(kind, name, "-a\n+b")


def test_what_is_no_text_is_not_updated(root: Path, patch: Patched) -> None:
    (root / "f").write_bytes("a\n".encode("utf-16"))
    with refused(root, "f is not a text file"):
        patch("update_file", "f", "-a\n+b")


def test_very_large_files_are_refused(root: Path, patch: Patched) -> None:
    with (root / "f").open("wb") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with refused(root, f"f has more than {FILE_BYTES_MAX} bytes"):
        patch("update_file", "f", "-a\n+b")
    with refused(root, f"more than {FILE_BYTES_MAX}"):
        patch("create_file", "new", "+" + "x" * (FILE_BYTES_MAX + 1))


def test_a_diff_that_does_not_fit_is_refused_with_the_reason(root: Path, patch: Patched) -> None:
    (root / "f").write_text("a\n")
    with refused(root, "f is as it was. Hunk 1: these lines are not to be found"):
        patch("update_file", "f", "-b\n+c")
    with refused(root, "each line of a new file starts with '+'"):
        patch("create_file", "new/f", "a")


def test_folders_that_were_made_for_nothing_go_again(root: Path, patch: Patched) -> None:
    with refused(root, "File name too long"):
        patch("create_file", f"a/b/{'c' * 300}", "+x")


def test_unknown_operations_are_refused(root: Path, patch: Patched) -> None:
    with refused(root, "There is no operation 'rename_file'"):
        patch("rename_file", "f")


def test_without_its_folder_there_is_no_runner(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ApplyPatch(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        ApplyPatch(tmp_path / "file")


# What the system refuses


READ_ONLY = """
import os, sys
from types import SimpleNamespace
from antiphon.client.runners import ApplyPatch, PatchRefused
for kind in ("create_file", "update_file", "delete_file"):
    path, diff = ("new/f", "+a") if kind == "create_file" else ("f", "-a\\n+b")
    patch = {"type": kind, "path": path, "diff": diff}
    try:
        ApplyPatch(sys.argv[1]).run(SimpleNamespace(apply_patch=patch))
    except PatchRefused as error:
        print(error)
"""


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="a read-only root is made with bubblewrap, which is not here")
def test_a_root_that_cannot_be_written_is_refused(root: Path) -> None:
    (root / "f").write_text("a\n")
    sandbox = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev"]
    before = tree(root)
    said = subprocess.run([*sandbox, sys.executable, "-c", READ_ONLY, root], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [
        "new/f cannot be changed: Read-only file system.",
        "f cannot be changed: Read-only file system.",
        "f cannot be changed: Read-only file system.",
    ]
    assert tree(root) == before


def test_a_disk_that_is_full_leaves_the_file_as_it_was(
    root: Path, patch: Patched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (root / "f").write_text("a\n")
    monkeypatch.setattr(os, "fsync", full)
    with refused(root, "f cannot be changed: No space left on device."):
        patch("update_file", "f", "-a\n+b")


def test_readers_see_the_old_file_or_the_new_one(root: Path, patch: Patched) -> None:
    sizes = {1000, 5000}
    (root / "f").write_text("x" * 1000)
    seen: set[int] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.add(len((root / "f").read_text()))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        patch("create_file", "f", "+" + "x" * (5000 if turn % 2 else 1000))
    over.set()
    reader.join()
    assert seen <= sizes
    assert list(tree(root)) == ["f"]


def test_patches_of_one_file_at_the_same_time_are_all_applied(root: Path, patch: Patched) -> None:
    (root / "f").write_text("".join(f"{n}\n" for n in range(20)))
    threads = [threading.Thread(target=patch, args=("update_file", "f", f"@@\n-{n}\n+{n}!")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (root / "f").read_text() == "".join(f"{n}!\n" for n in range(20))


# Whatever a model writes

names = st.lists(st.sampled_from(["a", "..", ".", "", "f", "link", "out", "\0", "é", ".git"]), max_size=4).map("/".join)
contents = st.lists(st.sampled_from(["a", "b", "", "\r", "\ufeff"]), max_size=6).map("\n".join)


@given(old=contents, new=contents)
def test_the_diff_of_two_files_makes_the_second(tmp_path_factory: Any, old: str, new: str) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "f").write_bytes(old.encode())
    mark = old.startswith("\ufeff")
    try:
        diff = v4a.diff(old.removeprefix("\ufeff"), new.removeprefix("\ufeff") if mark else new)
    except v4a.PatchInvalid:
        return
    call = ToolCall("c", "apply_patch", _Item({"type": "update_file", "path": "f", "diff": diff}))
    ApplyPatch(root).run(call)
    assert (root / "f").read_bytes() == (("\ufeff" if mark and not new.startswith("\ufeff") else "") + new).encode()


class _Item:
    """An item of a call that holds what Hypothesis made."""

    def __init__(self, operation: dict[str, str]) -> None:
        self.operation = self
        self._operation = operation

    def to_dict(self) -> dict[str, str]:
        return self._operation


@given(
    operations=st.lists(
        st.tuples(st.sampled_from(["create_file", "update_file", "delete_file"]), names, st.text(max_size=8)),
        max_size=4,
    )
)
def test_nothing_outside_the_root_changes_whatever_is_asked(tmp_path_factory: Any, operations: Any) -> None:
    base = tmp_path_factory.mktemp("base")
    root, outside = base / "root", base / "out"
    root.mkdir()
    outside.mkdir()
    (outside / "f").write_text("a\n")
    (root / "out").symlink_to(outside)
    (root / "link").symlink_to(outside / "f")
    runner = ApplyPatch(root)
    for kind, path, diff in operations:
        call = ToolCall("c", "apply_patch", _Item({"type": kind, "path": path, "diff": diff}))
        with contextlib.suppress(PatchRefused):
            runner.run(call)
    assert tree(outside) == {"f": (stat.S_IFREG, stat.S_IMODE((outside / "f").stat().st_mode), b"a\n", None)}
    assert not [name for name in tree(root) if ".antiphon-" in name]

"""Easier forms of an edit become valid V4A."""

import time

import pytest

from antiphon.tools.v4a import (
    Operation,
    PatchInvalid,
    apply,
    creation,
    operations,
    read_created_text,
    replacement,
    update,
)

FILE = "def add(a, b):\n    return a - b\n\n\ndef sub(a, b):\n    return a + b\n"
FIXED = "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a + b\n"
V4A = "@@ def add(a, b):\n-    return a - b\n+    return a + b"

UNIFIED = """\
--- a/calc.py\t2026-01-01
+++ b/calc.py
@@ -1,5 +1,5 @@
 def add(a, b):
-    return a - b
+    return a + b


 def sub(a, b):
"""

SEARCH = """\
calc.py
<<<<<<< SEARCH
    return a - b
=======
    return a + b
>>>>>>> REPLACE
"""

ENVELOPE = f"""\
*** Begin Patch
*** Update File: calc.py
{V4A}
*** End Patch
"""


# Whole files


def test_a_whole_file_becomes_the_diff_that_creates_it() -> None:
    assert creation("a\nb\n") == "+a\n+b\n+"


def test_what_is_such_a_diff_already_stays() -> None:
    assert creation("+a\n+b") == "+a\n+b"
    assert read_created_text(creation("")) == ""


# A text and its replacement


def test_a_replacement_is_one_hunk() -> None:
    assert replacement("a\nb\nc", "a\nB\nc") == "@@\n a\n-b\n+B\n c"


@pytest.mark.parametrize(("search", "new"), [("b", "x\ny"), ("b\n", "x\ny\n"), ("b\n", "x\ny"), ("b", "x\ny\n")])
def test_a_newline_at_the_end_of_either_does_not_matter(search: str, new: str) -> None:
    assert apply("a\nb\nc\n", replacement(search, new)) == "a\nx\ny\nc\n"


def test_a_replacement_by_nothing_deletes() -> None:
    assert apply("a\nb\nc\n", replacement("b\n", "")) == "a\nc\n"


def test_lines_of_any_content_are_replaced() -> None:
    assert apply("+a\n-b\n*** End Patch\n", replacement("-b\n*** End Patch", "@@ x")) == "+a\n@@ x\n"


@pytest.mark.parametrize("search", ["", "\n", "  \n"])
def test_an_empty_search_is_refused(search: str) -> None:
    with pytest.raises(PatchInvalid, match="The text to search for is empty"):
        replacement(search, "a")


def test_a_replacement_that_changes_nothing_is_refused() -> None:
    with pytest.raises(PatchInvalid, match="are the same"):
        replacement("a\n", "a")


# An update in any form


@pytest.mark.parametrize("form", [V4A, UNIFIED, SEARCH, ENVELOPE])
@pytest.mark.parametrize("around", ["{}", "\n{}\n\n", "```\n{}\n```", "```diff\n{}```\n", "~~~~patch\n{}\n~~~~"])
def test_each_form_says_the_same(form: str, around: str) -> None:
    assert apply(FILE, update(around.format(form))) == FIXED


def test_a_valid_diff_stays_as_it_is() -> None:
    assert update(V4A) == V4A


def test_a_hunk_of_a_unified_diff_needs_no_file_names() -> None:
    assert update("@@ -2 +2 @@ def add\n-    return a - b\n+    return a + b\n") == (
        "@@\n-    return a - b\n+    return a + b"
    )


def test_forgotten_spaces_in_front_of_context_are_mended() -> None:
    assert update("@@\ndef add(a, b):\n-    return a - b\n+    return a + b\n\n") == (
        "@@\n def add(a, b):\n-    return a - b\n+    return a + b"
    )


def test_several_blocks_are_several_hunks() -> None:
    blocks = "<<<<<<< SEARCH\na\n=======\nA\n>>>>>>> REPLACE\nand\n<<<<<<< ORIGINAL\nb\n=======\n>>>>>>> UPDATED"
    assert apply("a\nb\nc\n", update(blocks)) == "A\nc\n"


def test_lines_that_look_like_file_names_are_lines() -> None:
    unified = "--- a/x.sql\n+++ b/x.sql\n@@ -1,3 +1,3 @@\n select\n--- old\n+++ new\n from\n"
    assert apply("select\n-- old\nfrom\n", update(unified)) == "select\n++ new\nfrom\n"


def test_the_final_newline_stays_what_it_was() -> None:
    unified = "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n"
    assert apply("a", update(unified)) == "b"
    assert apply("a\n", update(unified)) == "b\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "changes nothing"),
        ("@@\n a\n b", "changes nothing"),
        ("Here is the patch.", "changes nothing"),
        ("@@ -5,0 +6,1 @@\n+x", "The hunk at line 5 lacks context"),
        ("<<<<<<< SEARCH\na\n=======\nb\n", "line 1 lacks its end, '>>>>>>> REPLACE'"),
        ("<<<<<<< SEARCH\na\n>>>>>>> REPLACE", "line 1 needs exactly one line '======='"),
        ("<<<<<<< SEARCH\na\n=====\nb\n=======\nc\n>>>>>>> REPLACE", "needs exactly one line '======='"),
        ("*** Update File: a\n-a\n+b\n*** Update File: b\n-a\n+b", "The diff is about 2 files: expected one."),
        ("*** Delete File: a", "The diff is a delete_file: expected an update_file."),
        ("*** Add File: a\n+b", "The diff is a create_file: expected an update_file."),
        ("@@\n-a\n*** Rename: b", "'*** Rename: b': a line of a diff starts with"),
    ],
)
def test_what_is_no_update_is_refused(text: str, why: str) -> None:
    with pytest.raises(PatchInvalid) as refused:
        update(text)
    assert why in str(refused.value)


# Patches that name their files


def test_an_envelope_holds_operations() -> None:
    patch = (
        "*** Begin Patch\n*** Add File: new.py\n+a\n+b\n*** Update File: old.py\n@@\n-c\n+d\n"
        "*** Delete File: gone.py\n*** End Patch"
    )
    assert operations(patch) == [
        Operation("create_file", "new.py", "+a\n+b\n+"),
        Operation("update_file", "old.py", "@@\n-c\n+d"),
        Operation("delete_file", "gone.py"),
    ]


def test_its_first_and_last_line_may_be_missing() -> None:
    assert operations("*** Add File: a b.txt \n+x") == [Operation("create_file", "a b.txt", "+x\n+")]


def test_an_envelope_may_hold_the_hunks_of_a_unified_diff() -> None:
    assert operations("*** Update File: a\n@@ -1,2 +1,2 @@ f\n a\n-b\n+c")[0].diff == "@@\n a\n-b\n+c"


def test_lines_without_context_go_to_the_end_of_the_file() -> None:
    (operation,) = operations("*** Begin Patch\n*** Update File: a\n@@\n+z\n*** End Patch")
    assert operation.diff is not None
    assert apply("a\nb\n", operation.diff) == "a\nb\nz\n"


def test_a_unified_diff_holds_operations() -> None:
    patch = (
        "diff --git a/new.py b/new.py\nnew file mode 100644\nindex 0000000..1111111\n--- /dev/null\n+++ b/new.py\n"
        "@@ -0,0 +1,2 @@\n+a\n+b\n"
        "diff --git a/old.py b/old.py\nindex 0000000..1111111 100644\n--- a/old.py\n+++ b/old.py\n@@ -1 +1 @@\n-c\n+d\n"
        "diff --git a/gone.py b/gone.py\ndeleted file mode 100644\n--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    )
    assert operations(patch) == [
        Operation("create_file", "new.py", "+a\n+b\n+"),
        Operation("update_file", "old.py", "@@\n-c\n+d"),
        Operation("delete_file", "gone.py"),
    ]


def test_a_new_file_of_a_unified_diff_may_lack_the_final_newline() -> None:
    patch = "--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+a\n\\ No newline at end of file\n"
    assert operations(patch) == [Operation("create_file", "a", "+a")]


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("", "The patch names no file"),
        ("Hello", "The patch starts with 'Hello': expected '*** Begin Patch'."),
        ("*** Begin Patch\n*** End Patch", "The patch names no file"),
        ("*** Update File:\n-a\n+b", "A file of the patch has no path."),
        ("*** Update File: a\n*** Move to: b\n@@\n-a\n+b", "a cannot be moved: create the new file and delete the old"),
        ("*** Add File: a\n+a\nb", "a: a line of a new file is 'b'"),
        ("--- a/a\n+++ b/b\n@@ -1 +1 @@\n-a\n+b", "a cannot be moved"),
        ("diff --git a/a b/b\nrename from a\nrename to b\n--- a/a\n+++ b/b\n@@ -1 +1 @@\n-a\n+b", "cannot be moved"),
        ("@@ -1 +1 @@\n-a\n+b", "The patch names no file"),
    ],
)
def test_what_is_no_patch_is_refused(patch: str, why: str) -> None:
    with pytest.raises(PatchInvalid) as refused:
        operations(patch)
    assert why in str(refused.value)


@pytest.mark.parametrize("blank", [" ", "\n", "`"])
def test_the_end_of_a_fence_is_looked_for_once(blank: str) -> None:
    began = time.process_time()
    with pytest.raises(PatchInvalid):
        update("```\n" + blank * 100_000 + "x")
    assert time.process_time() - began < 5


def test_fences_are_taken_off() -> None:
    for fence in ("```\n%s\n```", "  ~~~diff\n%s\n  ~~~ \n", "````\n%s\n```", "```\n%s```"):
        assert update(fence % V4A) == V4A

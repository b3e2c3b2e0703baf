"""V4A diffs: each case of the format, and what a refusal says."""

import time

import pytest

from antiphon.tools.v4a import Change, Hunk, PatchInvalid, apply, create, diff, parse, read_created_text, write

FILE = "class A:\n    def close(self):\n        return 1\n\n\nclass B:\n    def close(self):\n        return 1\n"


def lines(*parts: str) -> str:
    return "\n".join(parts)


# create_file


def test_each_line_of_a_new_file_is_behind_a_plus() -> None:
    assert read_created_text("+a\n+\n+b") == "a\n\nb"


def test_a_new_file_ends_in_a_newline_if_its_last_line_is_empty() -> None:
    assert read_created_text("+a\n+") == "a\n"
    assert read_created_text("+a\n+\n") == "a\n", "a newline at the end of the diff is not a line"


def test_a_new_file_may_be_empty() -> None:
    assert read_created_text("") == "" == read_created_text("+")


def test_a_new_file_has_the_line_endings_of_its_diff() -> None:
    assert read_created_text("+a\r\n+b\r\n+") == "a\r\nb\r\n"


def test_a_line_without_a_plus_is_no_line_of_a_new_file() -> None:
    with pytest.raises(PatchInvalid, match=r"Line 2 of the diff is 'b': each line of a new file starts with '\+'\."):
        read_created_text("+a\nb")


@pytest.mark.parametrize("text", ["", "a", "a\n", "a\r\nb\r\n", "+a\n-b\n\n\n", "*** End Patch\n"])
def test_what_is_created_is_the_text(text: str) -> None:
    assert read_created_text(create(text)) == text


@pytest.mark.parametrize("text", ["a\r\nb\nc", "a\r", "a\r\r\n"])
def test_line_endings_that_no_diff_can_say_are_refused(text: str) -> None:
    with pytest.raises(PatchInvalid, match="line endings"):
        create(text)


# update_file: what hunks do


def test_lines_are_replaced_between_context() -> None:
    assert apply("a\nb\nc\n", "@@\n a\n-b\n+B\n c") == "a\nB\nc\n"


def test_the_first_hunk_needs_no_header() -> None:
    assert apply("a\nb\n", "-a\n+A") == "A\nb\n"


def test_later_hunks_need_one() -> None:
    with pytest.raises(PatchInvalid, match="Line 4 of the diff is ' b': expected '@@' in front of the next hunk"):
        apply("a\nb\n", "-a\n+A\n*** End of File\n b")


def test_hunks_follow_each_other() -> None:
    assert apply("a\na\na\n", "@@\n-a\n+1\n@@\n-a\n+2") == "1\n2\na\n"


def test_a_hunk_can_hold_several_changes() -> None:
    assert apply("a\nb\nc\nd\n", "@@\n-a\n b\n+x\n c\n-d") == "b\nx\nc\n"


def test_lines_without_context_go_where_the_search_stands() -> None:
    assert apply("a\nb\n", "+x") == "x\na\nb\n"
    assert apply("a\nb\n", "@@ a\n+x") == "a\nx\nb\n"


def test_an_empty_line_of_a_diff_is_empty_context() -> None:
    assert apply("a\n\nb\n", "@@\n a\n\n-b\n+B") == "a\n\nB\n"


def test_a_diff_without_hunks_changes_nothing() -> None:
    assert apply("a\n", "") == "a\n"


def test_a_file_can_be_emptied_and_filled() -> None:
    assert apply("a\n", "-a\n-") == ""
    assert apply("", "+a") == "a\n"
    assert apply("", "-\n+a") == "a"


# update_file: where hunks are


def test_an_anchor_moves_the_search_behind_it() -> None:
    assert apply(FILE, "@@ class B:\n-        return 1\n+        return 2") == FILE[:-9].replace("x", "") + "return 2\n"


def test_anchors_can_be_stacked() -> None:
    patched = apply(FILE, "@@ class B:\n@@     def close(self):\n-        return 1\n+        return 2")
    assert patched == FILE[: FILE.rindex("1")] + "2\n"


def test_an_anchor_is_found_without_the_spaces_around_it() -> None:
    assert apply("  a\nx\n  b\nx\n", "@@ b\n-x\n+y") == "  a\nx\n  b\ny\n"


def test_a_single_anchor_may_be_missing_and_stacked_ones_may_not() -> None:
    assert apply("a\n", "@@ nowhere\n-a\n+b") == "b\n"
    with pytest.raises(PatchInvalid, match="Hunk 1: there is no line 'nowhere' from line 1 of the file on"):
        apply("a\n", "@@ nowhere\n@@ a\n-a\n+b")


def test_an_anchor_that_was_passed_does_not_move_the_search() -> None:
    assert apply("f\na\nb\nf\nb\n", "@@ f\n-a\n+A\n@@ f\n-b\n+B") == "f\nA\nB\nf\nb\n"


def test_spaces_at_the_end_of_lines_need_not_agree_and_stay() -> None:
    assert apply("a  \nb\t\n", "@@\n a\n-b\n+c") == "a  \nc\n"


def test_spaces_around_lines_need_not_agree_and_stay() -> None:
    assert apply("    a\n    b\n", "@@\n a\n-b\n+    c") == "    a\n    c\n"


def test_what_agrees_exactly_comes_before_what_agrees_nearly() -> None:
    assert apply("a \na\n", "@@\n-a\n+b") == "a \nb\n"
    assert apply("  a\na \n", "@@\n-a\n+b") == "  a\nb\n"


def test_the_end_of_the_file_ties_a_hunk_to_it() -> None:
    assert apply("a\nb\na\n", "@@\n-a\n+c\n*** End of File") == "a\nb\nc\n"
    assert apply("a\n", "@@\n+b\n*** End of File") == "a\nb\n"


def test_a_hunk_for_the_end_is_taken_from_elsewhere_if_need_be() -> None:
    assert apply("a\nb\n", "@@\n-a\n+c\n*** End of File") == "c\nb\n"


def test_hunks_must_not_overlap() -> None:
    with pytest.raises(PatchInvalid, match="Two hunks change line 2 of the file: hunks must not overlap"):
        apply("a\nb\n", "@@\n-a\n-b\n+c\n@@\n-b\n+d\n*** End of File")


# update_file: what is around hunks


@pytest.mark.parametrize("end", ["*** End Patch", "*** Update File: b", "*** Add File: b", "*** Delete File: b"])
def test_the_lines_of_an_envelope_end_a_diff(end: str) -> None:
    assert apply("a\n", f"@@\n-a\n+b\n{end}") == "b\n"
    assert read_created_text(f"+a\n{end}") == "a"


def test_the_lines_that_open_an_envelope_are_passed_over() -> None:
    assert apply("a\n", "*** Begin Patch\n*** Update File: a\n@@\n-a\n+b\n*** End Patch") == "b\n"


@pytest.mark.parametrize(
    ("unreadable", "why"),
    [
        ("@@\nabc", "Line 2 of the diff is 'abc': a line of a hunk starts with ' ', '-' or '+'"),
        ("@@\n a\n*** Move File: b", "Line 3 of the diff is '*** Move File: b': a line of a diff starts with"),
        ("@@\n a\n***", "Line 3 of the diff is '***'"),
        ("@@", "The diff ends too early: expected lines of this hunk"),
        ("*** End of File", "Line 1 of the diff is '*** End of File': expected lines of this hunk"),
        ("-a\n*** End of File\n*** End of File", "Line 3 of the diff is '*** End of File'"),
        ("@@\n@@x\n a", "Line 2 of the diff is '@@x': expected lines of this hunk"),
        ("@@\n a\n@@x\n b", "Line 3 of the diff is '@@x': expected '@@' in front of the next hunk"),
    ],
)
def test_what_is_no_diff_is_refused_with_its_line(unreadable: str, why: str) -> None:
    with pytest.raises(PatchInvalid) as refused:
        apply("a\n", unreadable)
    assert why in str(refused.value)


# update_file: lines that are not there


def test_a_refusal_says_what_was_not_found_and_what_stands_there() -> None:
    with pytest.raises(PatchInvalid) as refused:
        apply("one\ntwo\nthree\nfour\n", "@@\n two\n-3\n+drei\n four")
    assert str(refused.value) == lines(
        "Hunk 1: these lines are not to be found from line 1 of the file on:",
        "  two",
        "  3",
        "  four",
        "The nearest place is line 2; at line 3 the file has",
        "  three",
        "where the diff expects",
        "  3",
    )


def test_a_refusal_says_which_line_is_most_like_what_was_expected() -> None:
    with pytest.raises(PatchInvalid) as refused:
        apply("def add(a, b):\n    return a - b\n", "-    return a * b\n+    return a + b")
    assert str(refused.value).endswith("The line most like them is line 2:\n      return a - b")
    with pytest.raises(PatchInvalid, match=r"from line 1 of the file on:\n  zzz$"):
        apply("abc\n", "-zzz")


def test_a_refusal_says_that_hunks_are_out_of_order() -> None:
    with pytest.raises(PatchInvalid, match=r"Hunk 2: (.|\n)*They stand at line 1: hunks must be in the order"):
        apply("a\nb\n", "@@\n-b\n+B\n@@\n-a\n+A")


def test_a_refusal_says_that_the_file_ends() -> None:
    with pytest.raises(
        PatchInvalid, match="at line 2 the file has\n  the end of the file\nwhere the diff expects\n  b"
    ):
        apply("a", "@@\n a\n-b")


def test_a_refusal_is_short() -> None:
    many = "\n".join(f"-{'x' * 1000}" for _ in range(1000))
    with pytest.raises(PatchInvalid) as refused:
        apply("a\n" * 1000, many)
    assert len(str(refused.value)) < 4000
    assert "… (1000 lines)" in str(refused.value)


# Line endings


def test_the_line_endings_of_a_file_are_kept_and_new_lines_get_them() -> None:
    assert apply("a\r\nb\r\n", "@@\n a\n-b\n+c\n+d") == "a\r\nc\r\nd\r\n"
    assert apply("a\nb\n", "@@\r\n a\r\n-b\r\n+c\r\n") == "a\nc\n"


def test_mixed_line_endings_stay_where_they_are() -> None:
    assert apply("a\nb\r\nc\r\nd\n", "@@\n-b\n+B\n+C") == "a\nB\r\nC\r\nc\r\nd\n"
    assert apply("a\nb\r\nc\r\n", "@@ a\n+A") == "a\nA\nb\r\nc\r\n"
    assert apply("a\r\nb\r\nc\nd\r\n", "@@\n-b\n+B") == "a\r\nB\r\nc\nd\r\n"


def test_the_final_newline_is_kept() -> None:
    assert apply("a\nb", "@@\n-b\n+c") == "a\nc"
    assert apply("a\nb\n", "@@\n-b\n+c") == "a\nc\n"


def test_the_final_newline_can_be_given_and_taken() -> None:
    assert apply("a", "@@\n a\n+") == "a\n"
    assert apply("a\n", "@@\n a\n-") == "a"


# diff


def test_a_diff_has_three_lines_of_context() -> None:
    old = "\n".join("abcdefghij") + "\n"
    assert diff(old, old.replace("e", "E")) == "@@\n b\n c\n d\n-e\n+E\n f\n g\n h"


def test_a_diff_has_as_much_context_as_finds_the_right_place() -> None:
    old = "x\n" * 50 + "y\n" + "x\n" * 50
    new = "x\n" * 48 + "X\n" + "x\n" + "y\n" + "x\n" * 50
    assert apply(old, diff(old, new)) == new
    assert apply(old, diff(old, old[:-2])) == old[:-2]


def test_equal_texts_have_no_diff() -> None:
    assert diff("a\n", "a\n") == ""


@pytest.mark.parametrize(("old", "new"), [("a\nb\n", "a\r\nb\r\n"), ("a\n", "b\r"), ("a\r\nb\n", "c\nd\r\n")])
def test_a_diff_that_would_have_to_change_line_endings_is_refused(old: str, new: str) -> None:
    with pytest.raises(PatchInvalid, match="line endings"):
        diff(old, new)


def test_very_long_texts_are_compared_quickly() -> None:
    old = "\n".join(f"old {n}" for n in range(60_000))
    new = "\n".join(f"new {n}" for n in range(60_000))
    assert apply(old, diff(old, new)) == new


# Hunks as values


def test_hunks_are_read() -> None:
    assert parse("@@ f\n@@ g\n a\n-b\n+c\n+d\n e\n-h\n*** End of File") == (
        Hunk(("a", "b", "e", "h"), (Change(1, 1, ("c", "d")), Change(3, 1, ())), ("f", "g"), 2, at_end=True),
    )


@pytest.mark.parametrize(
    "text", ["@@\n-a\n+b", "@@ f\n@@ g\n a\n-b\n+c\n d\n+e\n*** End of File\n@@\n x\n-y", "@@\n@@ f\n-a"]
)
def test_hunks_are_written_as_they_were_read(text: str) -> None:
    assert write(parse(text)) == text


def test_lines_that_repeat_are_searched_once() -> None:
    began = time.process_time()
    text = "a\n" * 50_000
    with pytest.raises(PatchInvalid):
        apply(text, "@@\n" + " a\n" * 25_000 + "-b")
    assert apply(text + "b", "@@\n" + " a\n" * 25_000 + "-b\n+c") == text + "c"
    assert time.process_time() - began < 10

"""V4A of any texts: a diff makes the new text, and the official applier agrees about every diff."""

import difflib
import re

import pytest
from agents import apply_diff
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon.tools.v4a import (
    PatchInvalid,
    apply,
    create,
    creation,
    diff,
    operations,
    parse,
    read_created_text,
    replacement,
    update,
    write,
)

few = st.sampled_from(["", "a", "b", " a", "a ", "\tb", "@@ a", "*** End Patch", "-a", "+", "é", "}"])
words = st.one_of(few, st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=6))
texts = st.lists(words, max_size=30).map("\n".join)
alike = st.lists(st.sampled_from(["a", "b", ""]), max_size=60).map("\n".join)
pairs = st.one_of(st.tuples(texts, texts), st.tuples(alike, alike))

diff_lines = st.one_of(
    st.builds("{}{}".format, st.sampled_from([" ", "-", "+"]), st.sampled_from(["a", "b", "", " a", "a "])),
    st.sampled_from(
        ["@@", "@@ a", "@@ b", "@@  a", "", "*** End of File", "@@x", "***", "*** End Patch", "a", "*** x"]
    ),
)
diffs = st.lists(diff_lines, max_size=10).map("\n".join)
files = st.lists(st.sampled_from(["a", "b", "", " a", "a ", "  b"]), max_size=8).map("\n".join)


@given(pair=pairs)
def test_the_diff_of_two_texts_makes_the_second(pair: tuple[str, str]) -> None:
    old, new = pair
    assert apply(old, diff(old, new)) == new
    assert apply_diff(old, diff(old, new)) == new


@given(pair=pairs)
def test_so_it_is_with_other_line_endings(pair: tuple[str, str]) -> None:
    old, new = (text.replace("\n", "\r\n") for text in pair)
    if "\n" in old or "\n" not in new:
        assert apply(old, diff(old, new)) == new
        assert apply_diff(old, diff(old, new)) == new


@given(old=st.text(max_size=30), new=st.text(max_size=30))
def test_of_any_two_texts_there_is_the_right_diff_or_none(old: str, new: str) -> None:
    try:
        written = diff(old, new)
    except PatchInvalid:
        assert "\r" in old + new
    else:
        assert apply(old, written) == new


@given(text=texts)
def test_the_diff_of_a_new_file_makes_it(text: str) -> None:
    assert read_created_text(create(text)) == text == apply_diff("", create(text), "create")


@given(text=files, patch=diffs)
@example(text="a\nb", patch="-a\n+c\n*** End of File\n-b\n+d")
def test_the_official_applier_agrees(text: str, patch: str) -> None:
    """It passes over what follows an end of the file that ends no hunk; here that is refused."""
    try:
        applied = apply(text, patch)
    except PatchInvalid:
        if not re.search(r"(^|@@.*\n|\*\*\* End of File\n)\*\*\* End of File", patch):
            with pytest.raises(ValueError):
                apply_diff(text, patch)
    else:
        assert applied == apply_diff(text, patch)


@given(patch=diffs)
def test_the_official_creator_agrees(patch: str) -> None:
    try:
        text = read_created_text(patch)
    except PatchInvalid:
        with pytest.raises(ValueError):
            apply_diff("", patch, "create")
    else:
        assert text == apply_diff("", patch, "create")


@given(patch=diffs)
def test_hunks_are_written_as_they_were_read(patch: str) -> None:
    try:
        hunks = parse(patch)
    except PatchInvalid:
        return
    assert [(hunk.expected, hunk.changes, hunk.anchors, hunk.at_end) for hunk in parse(write(hunks))] == [
        (hunk.expected, hunk.changes, hunk.anchors, hunk.at_end) for hunk in hunks
    ]


@given(pair=pairs)
def test_a_unified_diff_becomes_one_that_does_the_same(pair: tuple[str, str]) -> None:
    old, new = (f"{text}\n" for text in pair)
    unified = "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a/f", "b/f", n=1000))
    if old != new and len(old.splitlines()) == old.count("\n") and len(new.splitlines()) == new.count("\n"):
        assert apply(old, update(unified)) == new
        assert [operation.path for operation in operations(unified)] == ["f"]


@given(before=texts, search=texts, new=texts, after=texts)
def test_a_replacement_replaces(before: str, search: str, new: str, after: str) -> None:
    try:
        patch = replacement(f"{search}\n", f"{new}\n")
    except PatchInvalid:
        assert not search.strip() or search == new
        return
    text = f"{before}\n{search}\n{after}"
    expected = text.split("\n")
    wanted = search.split("\n")
    at = next(at for at in range(len(expected)) if expected[at : at + len(wanted)] == wanted)
    expected[at : at + len(wanted)] = new.split("\n")
    assert apply(text, patch) == "\n".join(expected)


@given(text=st.one_of(st.text(), diffs, texts))
def test_whatever_a_model_writes_becomes_valid_or_is_refused(text: str) -> None:
    for read in (update, creation, operations):
        try:
            found = read(text)
        except PatchInvalid as refused:
            assert str(refused)
            continue
        for patch in [found] if isinstance(found, str) else [operation.diff for operation in found]:
            if read is update:
                assert any(hunk.changes for hunk in parse(patch or ""))

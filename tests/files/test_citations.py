"""Citations: markers never show, wherever the stream is cut; what only looks like one stays."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.files.citations import Citation, CitationFilter, Mode, Piece, Source

SOURCES = {
    1: Source("file-a", "pets.txt", "Travis says that his favourite food is pizza with extra cheese."),
    2: Source("file-b", "trees.md", "Lemon trees want water twice a week in summer."),
    3: Source("file-a", "pets.txt", "The cat sleeps all day long on the sofa."),
}


def run(*pieces: str, mode: Mode = "markers") -> tuple[str, list[tuple[int, str]]]:
    found = CitationFilter(SOURCES, mode)
    out: list[Piece] = [each for piece in pieces for each in found.feed(piece)] + found.end()
    text = "".join(each for each in out if isinstance(each, str))
    return text, [(each.index, each.file_id) for each in out if isinstance(each, Citation)]


@pytest.mark.parametrize(
    ("text", "clean", "cited"),
    [
        ("His food is pizza [1].", "His food is pizza.", [(17, "file-a")]),
        ("Pizza[1].", "Pizza.", [(5, "file-a")]),
        ("Both [1, 2] and [2][1].", "Both and.", [(4, "file-a"), (4, "file-b"), (8, "file-b"), (8, "file-a")]),
        ("Same file [1][3].", "Same file.", [(9, "file-a")]),
        ("Corner 【2】 and 【2†source】!", "Corner and!", [(6, "file-b"), (10, "file-b")]),
        ("Unknown [9] goes.", "Unknown goes.", []),
        ("An interval [10, 20] stays.", "An interval [10, 20] stays.", []),
        ("The year [2024] stays.", "The year [2024] stays.", []),
        ("Index a[1] and x2[1] stay.", "Index a[1] and x2[1] stay.", []),
        ("Code `f[ 1] [1]` stays, not [1].", "Code `f[ 1] [1]` stays, not.", [(27, "file-a")]),
        ("```\nx [1]\n```\nbut [1]", "```\nx [1]\n```\nbut", [(17, "file-a")]),
        ("One ` is no code\nhere [1]", "One ` is no code\nhere", [(21, "file-a")]),
        ("A link [1](http://x) stays.", "A link [1](http://x) stays.", []),
        ("Open [1", "Open [1", []),
        ("List [ ] and [x] stay [", "List [ ] and [x] stay [", []),
        ("Two  blanks  [2] here", "Two  blanks  here", [(12, "file-b")]),
        ("[1] first", " first", [(0, "file-a")]),
    ],
)
def test_markers_become_citations(text: str, clean: str, cited: list[tuple[int, str]]) -> None:
    assert run(text) == (clean, cited)
    assert run(*text) == (clean, cited), "one character at a time"


def test_little_is_held_back() -> None:
    found = CitationFilter(SOURCES, "markers")
    assert found.feed("Some words") == ["Some words"]
    assert found.feed(" and [") == [" and"]
    assert found.feed("1") == [] and found.feed("]") == []
    assert found.feed(".") == [Citation(14, "file-a", "pets.txt"), "."]
    assert found.feed(" end ") == [" end"]


def test_words_tell_the_source_where_the_model_does_not() -> None:
    text = "Lemon trees want water twice a week. The moon is made of green stone and dust."
    assert run(text, mode="auto") == (text, [(36, "file-b")])
    assert run(text, mode="overlap") == (text, [(36, "file-b")])
    assert run(text, mode="markers") == (text, [])


def test_a_model_that_cites_is_not_second_guessed() -> None:
    text = "His favourite food is pizza [1]. Lemon trees want water twice a week."
    assert run(text, mode="auto")[1] == [(27, "file-a")]


def test_off_changes_nothing() -> None:
    assert run("Pizza [1].", mode="off") == ("Pizza [1].", [])


PARTS = """[ ] 1 2 9 12 , ` `` ``` a food_ pizza_ ._ . 【 】 † source [1] _[2] 【3】 [1,_2] ( ^ a[1] é 漢 _ __ \\n
Lemon_trees_want_water_twice_a_week""".split()  # noqa: SIM905
tokens = st.sampled_from([part.replace("_", " ").replace("\\n", "\n") for part in PARTS])


@settings(max_examples=1500, deadline=None)
@given(
    st.lists(tokens, max_size=40), st.randoms(use_true_random=False), st.sampled_from(["auto", "markers", "overlap"])
)
def test_any_split_gives_the_same(parts: list[str], chance: object, mode: Mode) -> None:
    text = "".join(parts)
    pieces: list[str] = []
    rest = text
    while rest:
        cut = chance.randint(1, min(7, len(rest)))  # type: ignore[attr-defined]
        pieces.append(rest[:cut])
        rest = rest[cut:]
    whole = run(text, mode=mode)
    assert run(*pieces, mode=mode) == whole
    assert all(0 <= index <= len(whole[0]) for index, _ in whole[1])
    if mode == "overlap":
        assert whole[0] == text, "only markers are ever taken out"

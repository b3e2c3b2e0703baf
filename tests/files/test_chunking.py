"""Chunks: their sizes hold, nothing is lost between them, and they are cut where the text is."""

from hypothesis import given
from hypothesis import strategies as st

from antiphon.files.chunking import WINDOW_TOKENS, chunk_document
from antiphon.files.document import Document, Mark
from antiphon.files.parsing.text import parse_text
from antiphon.files.tokens import count_tokens, token_starts

SENTENCE = "The quick brown fox jumps over the lazy dog. "
words = st.text(alphabet="ab é漢\n.#-x", max_size=40)


def test_tokens_are_those_of_a_real_vocabulary() -> None:
    text = "Unbelievable tokenization!"
    assert len(token_starts(text)) > len(text.split())
    assert count_tokens("hello world") == 2
    assert count_tokens("x" * 100_000) > 20_000, "what is no word counts by its length"


def test_a_short_document_is_one_chunk() -> None:
    chunked = chunk_document(Document("Hello there."))
    assert [chunk.text for chunk in chunked.chunks] == ["Hello there."]
    assert [(window.text, window.first, window.last) for window in chunked.windows] == [("Hello there.", 0, 0)]


def test_sizes_hold_and_chunks_overlap() -> None:
    chunked = chunk_document(Document(SENTENCE * 500), 200, 100)
    assert len(chunked.chunks) > 10
    for before, after in zip(chunked.chunks, chunked.chunks[1:], strict=False):
        assert after.start < before.end, "neighbours overlap"
        assert count_tokens((SENTENCE * 500)[after.start : before.end]) <= 100
        assert after.text.startswith("The quick"), "cut between sentences"
    assert all(count_tokens(chunk.text) == chunk.tokens <= 200 for chunk in chunked.chunks)
    assert all(count_tokens(window.text) <= WINDOW_TOKENS for window in chunked.windows)


def test_headings_are_the_best_cuts_and_are_kept() -> None:
    text = "".join(f"# Part {n}\n\n{SENTENCE * 6}\n\n" for n in range(20))
    document = parse_text(text.encode(), "a.md")
    chunked = chunk_document(document, 100, 0)
    assert all(chunk.text.startswith("# Part") for chunk in chunked.chunks)
    assert chunked.chunks[3].heading == document.mark(chunked.chunks[3].start).heading != ""


def test_pages_are_kept() -> None:
    text = SENTENCE * 40
    document = Document(text, (Mark(0, 1), Mark(len(SENTENCE) * 20, 2)))
    assert {chunk.page for chunk in chunk_document(document, 100, 0).chunks} == {1, 2}


@given(st.lists(words, max_size=60).map(" ".join), st.integers(100, 400), st.integers(0, 50))
def test_nothing_is_lost_and_every_chunk_has_a_window(text: str, size: int, share: int) -> None:
    chunked = chunk_document(Document(text), size, size * share // 100)
    covered = [False] * len(text)
    for chunk in chunked.chunks:
        assert chunk.text == text[chunk.start : chunk.end] and chunk.tokens <= size
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
    starts = token_starts(text)
    assert all(covered[start] for start in starts)
    reached = {ordinal for window in chunked.windows for ordinal in range(window.first, window.last + 1)}
    assert reached == set(range(len(chunked.chunks)))

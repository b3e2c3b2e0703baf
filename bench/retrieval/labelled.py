"""A labelled set, made from documentation that comes with packages: what was asked, and the passage that answers it.

Frequently asked questions are cut out of their documents, and so is every other heading that is asked for: what stays
is the text below, and where it stands is known to the character. Two kinds are asked in English, and one in others:

* ``question``: a question of a list of frequently asked ones, as people wrote it;
* ``section``: a manual's title and one of its headings;
* ``language``: questions in eight other languages, which the English model that comes with Antiphon hardly knows.

Half of the documents are for tuning, the other half for testing; which, their names say, and so no question of a
document is in both.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

PACKAGES = ("python3.11-doc", "perl-doc", "git-doc", "debian-faq", "libcurl4-doc", "sed")
LANGUAGES = ("de", "fr", "it", "ja", "nl", "pt", "ru", "zh-cn")
BODY_CHARS_MIN = 120
"""A heading with less below it is no question: it stays, as text."""
MANUALS = 60
"""How many of Git's manuals are there, beside Python's."""

Kind: TypeAlias = Literal["question", "section", "language"]


class Heading(NamedTuple):
    """A heading, from before its first character to behind its last line; ``title`` as it reads."""

    start: int
    end: int
    title: str


class Labelled(NamedTuple):
    """What is asked, and the characters of the document that answer it."""

    kind: Kind
    query: str
    document: str
    start: int
    end: int

    @property
    def is_test(self) -> bool:
        """Whether it is in the half that nothing may be tuned on."""
        return hashlib.sha256(self.document.encode()).digest()[0] % 2 == 1


class LabelledSet(NamedTuple):
    """Documents by name, what is asked of them, and the versions of the packages that they come from."""

    documents: dict[str, str]
    questions: list[Labelled]
    versions: dict[str, str]


def load(folder: Path) -> LabelledSet:
    """The set, from packages that are downloaded into the folder if they are not there.

    Raises:
        SystemExit: they cannot be had.
    """
    names = (*PACKAGES, *(f"debian-faq-{language}" for language in LANGUAGES))
    roots = {name: _unpack(name, folder) for name in names}
    found = LabelledSet({}, [], {name: (root / ".version").read_text() for name, root in roots.items()})
    for name, text, headings, kind in _sources(roots):
        _label(found, name, text, list(headings), kind)
    return found


def _unpack(package: str, folder: Path) -> Path:
    root = folder / package
    if (root / ".version").exists():
        return root
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", package], cwd=downloads, check=True, capture_output=True)
        (file,) = downloads.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", file, root], check=True, capture_output=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", b"") or str(error).encode()
        raise SystemExit(
            f"{package} cannot be had (Debian 12 is needed, and its packages): {detail.decode()}"
        ) from error
    (root / ".version").write_text(file.name.split("_")[1].replace("%3a", ":"))
    return root


def _sources(roots: dict[str, Path]) -> Iterator[tuple[str, str, Iterable[Heading], Kind]]:
    """Each document: its name, its text, the headings in it, and of which kind they are."""
    python = roots["python3.11-doc"] / "usr/share/doc/python3.11/html/_sources"
    perl = roots["perl-doc"] / "usr/share/perl"
    git = roots["git-doc"] / "usr/share/doc/git-doc"
    for path in sorted(python.glob("faq/*.rst.txt")):
        yield f"python-faq-{path.name}", *_read(path, _underlined), "question"
    for path in sorted(perl.glob("*/pod/perl*faq[1-9].pod")) + sorted(perl.glob("*/pod/perlunifaq.pod")):
        yield f"{path.stem}.txt", *_read(path, _pod), "question"
    yield "gitfaq.txt", *_read(git / "gitfaq.txt", _asked), "question"
    for name, file in (
        ("curl-faq", roots["libcurl4-doc"] / "usr/share/doc/libcurl4/FAQ.gz"),
        ("sed-faq", roots["sed"] / "usr/share/doc/sed/sedfaq.txt.gz"),
    ):
        yield f"{name}.txt", *_read(file, _numbered), "question"
    english = roots["debian-faq"] / "usr/share/doc/debian/FAQ/debian-faq.en.txt.gz"
    for number, chapter in _chapters(english):
        yield f"debian-faq-{number}.txt", chapter, _numbered(chapter), "question"
    for language in LANGUAGES:
        file = roots[f"debian-faq-{language}"] / f"usr/share/doc/debian/FAQ/debian-faq.{language}.txt.gz"
        for number, chapter in _chapters(file):
            if number in (7, 8):
                yield f"debian-faq-{language}-{number}.txt", chapter, _numbered(chapter), "language"
    manuals = [path for path in git.glob("git*.txt") if path.name != "gitfaq.txt"]
    manuals = sorted(manuals, key=lambda path: hashlib.sha256(path.name.encode()).digest())[:MANUALS]
    for path in sorted(manuals):
        yield path.name, *_read(path, _underlined), "section"
    for path in sorted(
        file for folder in ("tutorial", "howto", "using") for file in python.glob(f"{folder}/*.rst.txt")
    ):
        yield f"python-{path.parent.name}-{path.name}", *_read(path, _underlined), "section"


def _read(path: Path, find: Callable[[str], Iterable[Heading]]) -> tuple[str, Iterable[Heading]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace").replace("\r\n", "\n")
    if find is _numbered:
        text = _without_contents(text)
    # Targets of links are written above what they are of, and would tell the words of its heading to its neighbour.
    text = re.sub(r"^(\.\. _.+:|\[\[[\w-]+\]\])\n", "", text, flags=re.MULTILINE)
    return text, find(text)


def _underlined(text: str) -> Iterator[Heading]:
    r"""``Title\n=====``, as in reStructuredText and AsciiDoc."""
    for match in re.finditer(r"^(\S.*)\n(([=\-~^*\"'#+])\3{2,})[ \t]*\n", text, re.MULTILINE):
        title = match[1].strip()
        if 0 <= len(match[2]) - len(title) <= 2 and not re.match(r"[=\-~^*\"'#+.|]{3}", title):
            yield Heading(match.start(), match.end(), title)


def _pod(text: str) -> Iterator[Heading]:
    for match in re.finditer(r"^=head\d (.+)\n", text, re.MULTILINE):
        yield Heading(match.start(), match.end(), re.sub(r"[CIBLFE]<+ ?(.*?) ?>+", r"\1", match[1]))


def _asked(text: str) -> Iterator[Heading]:
    """A question that ends in ``::``, as in AsciiDoc; other headings end what is below one."""
    found = [Heading(m.start(), m.end(), m[1]) for m in re.finditer(r"^(\S.*)::\n", text, re.MULTILINE)]
    yield from sorted((*found, *(Heading(h.start, h.end, "") for h in _underlined(text))))


def _numbered(text: str) -> Iterator[Heading]:
    """``1.2. Title``, in one line or several."""
    pattern = r"^ {0,2}(\d+(?:\.\d+)*)\.? +(\S.*(?:\n {0,8}\S.*){0,3})\n\s*\n"
    for match in re.finditer(pattern, text, re.MULTILINE):
        title = " ".join(match[2].split())
        yield Heading(match.start(), match.end(), title if "." in match[1] else "")


def _without_contents(text: str) -> str:
    """What follows the table of contents, which has all questions: from where the first chapter's title comes again."""
    first = re.search(r"^ *(1\. .+)$", text, re.MULTILINE)
    assert first is not None, "a document with numbered headings has a first one"
    again = text.find(first[1].strip(), first.end())
    return text[again:]


def _chapters(path: Path) -> Iterator[tuple[int, str]]:
    """The chapters of a document whose headings are numbered."""
    text = gzip.decompress(path.read_bytes()).decode().replace("\xa0", " ")
    # Its title at the beginning of a line, nothing else there before its first question.
    opening = re.compile(r"^\S[^\n]*\n\n(?:(?: [^\n]*)?\n)*?(\d+)\.1\. ", re.MULTILINE)
    starts = [(match.start(), int(match[1])) for match in opening.finditer(text)]
    for (start, number), (end, _) in zip(starts, [*starts[1:], (len(text), 0)], strict=True):
        yield number, text[start:end]


def _label(found: LabelledSet, name: str, text: str, headings: list[Heading], kind: Kind) -> None:
    """Cut out the headings that are asked for, and add the document and its questions."""
    pieces: list[str] = []
    length = last = 0
    title = headings[0].title if headings else ""
    asked: list[tuple[str, int, int]] = []
    for heading, following in zip(headings, [*headings, Heading(len(text), 0, "")][1:], strict=True):
        body = text[heading.end : following.start]
        is_asked = len(body.strip()) >= BODY_CHARS_MIN and _is_question(heading.title, kind)
        if kind == "section":
            is_asked = is_asked and heading is not headings[0]
        pieces.append(text[last : heading.start if is_asked else heading.end])
        length += len(pieces[-1])
        if is_asked:
            query = heading.title if kind != "section" else f"{title}: {heading.title}"
            start = length + len(body) - len(body.lstrip())
            asked.append((query, start, length + len(body.rstrip())))
        pieces.append(body)
        length += len(body)
        last = following.start
    pieces = pieces or [text]
    found.documents[name] = "".join(pieces)
    found.questions.extend(Labelled(kind, query, name, start, end) for query, start, end in asked)


_GENERAL = frozenset(
    """name synopsis description options examples see also notes bugs author authors git configuration output
    introduction overview example summary discussion environment variables files acknowledgements version and
    copyright limitations caveats usage background format default""".split()  # noqa: SIM905
)


def _is_question(title: str, kind: Kind) -> bool:
    """Whether somebody could ask that, and be answered by one passage."""
    if kind == "section":
        words = re.findall(r"[\w']+", title.lower())
        return len(words) > 1 and not _GENERAL.issuperset(words)
    return re.search(r"[?？]", title) is not None

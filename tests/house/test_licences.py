"""What the package needs to run may be used, changed and passed on by everybody: its licences are permissive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

PERMISSIVE = ("mit", "apache", "bsd", "isc", "psf", "python software foundation", "unlicense", "zlib", "0bsd", "cc0")
WEAK = ("mpl", "mozilla public")
"""Weak copyleft, of files alone: used unchanged, it asks nothing of what is built on it."""
COPYLEFT = re.compile(r"\b(a?gpl|lgpl)|affero|general public", re.IGNORECASE)


def needed(name: str, found: dict[str, Distribution]) -> Iterator[Distribution]:
    """The distributions that one needs, itself among them, without its extras."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        return
    try:
        found[key] = distribution(name)
    except PackageNotFoundError:
        return
    yield found[key]
    for line in found[key].requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from needed(requirement.name, found)


def licence(one: Distribution) -> str:
    """All that a distribution says of its licence."""
    told = [*(one.metadata.get_all("License-Expression") or []), *(one.metadata.get_all("License") or [])]
    told += [each for each in one.metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    return " | ".join(text[:300] for text in told)


def test_every_package_that_a_server_needs_has_a_permissive_licence() -> None:
    packages = list(needed("antiphon", {}))
    assert len(packages) > 20
    told = {one.metadata["Name"]: licence(one) for one in packages}
    unclear = {name: text for name, text in told.items() if not any(w in text.lower() for w in (*PERMISSIVE, *WEAK))}
    assert not unclear
    copyleft = {name for name, text in told.items() if COPYLEFT.search(text)}
    assert not copyleft

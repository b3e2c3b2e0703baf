"""What is installed: locked by hash, listed, and without known vulnerabilities, as far as advisories are at hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).parents[2]
LOCK = TOP / "requirements.lock"
ADVISORIES = os.environ.get("ANTIPHON_ADVISORIES", "")
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;]+)(?P<rest>(?:.*\\\n)+.*)$", re.MULTILINE)


def pins() -> list[tuple[str, str, str]]:
    """Names, versions, and what stands behind them in the lock file."""
    return [(canonicalize_name(pin["name"]), pin["version"], pin["rest"]) for pin in PIN.finditer(LOCK.read_text())]


def test_everything_that_a_server_needs_is_locked_by_hash() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())
    wanted = [Requirement(line) for line in project["project"]["dependencies"] + project["dependency-groups"]["build"]]
    locked: dict[str, list[str]] = {}
    for name, version, rest in pins():
        assert "--hash=sha256:" in rest, name
        locked.setdefault(name, []).append(version)
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith(" ")]
    assert len(lines) == len(pins()) > 50
    for each in wanted:
        versions = locked.get(canonicalize_name(each.name), [])
        assert versions and all(map(each.specifier.contains, versions)), f"{each}: run `make lock`"
    assert "://" not in LOCK.read_text(), "where packages come from is for who installs them to say"


def test_a_build_lists_all_that_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="an environment from before `make env` had it")
    listed = tmp_path / "list.json"
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--pyproject", str(TOP / "pyproject.toml")]
    subprocess.run([*command, "-o", str(listed), str(LOCK)], check=True, capture_output=True)
    components = {
        (canonicalize_name(each["name"]), each["version"]) for each in json.loads(listed.read_text())["components"]
    }
    assert components == {(name, version) for name, version, _ in pins()}


def affected(advisory: dict[str, Any], name: str, version: str) -> bool:
    """Whether an advisory in the OSV format names that version. One that was withdrawn names none."""
    if "withdrawn" in advisory:
        return False
    return any(
        canonicalize_name(each["package"]["name"]) == name and version in each.get("versions", ())
        for each in advisory.get("affected", ())
        if each.get("package", {}).get("ecosystem") == "PyPI"
    )


def test_an_advisory_is_read_as_it_is_meant() -> None:
    package = {"ecosystem": "PyPI", "name": "A_b"}
    advisory = {"id": "X-1", "affected": [{"package": package, "versions": ["1.0", "1.1"]}]}
    assert affected(advisory, "a-b", "1.1")
    assert not affected(advisory, "a-b", "1.2")
    assert not affected(advisory, "c", "1.1")
    assert not affected(advisory | {"withdrawn": "2026-01-01T00:00:00Z"}, "a-b", "1.1")


@pytest.mark.skipif(not ADVISORIES, reason="ANTIPHON_ADVISORIES names no archive of advisories (OSV, one JSON a file)")
def test_nothing_locked_has_a_known_vulnerability() -> None:
    with zipfile.ZipFile(ADVISORIES) as archive:
        advisories = [json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")]
    known = {
        f"{name} {version}: {advisory['id']}"
        for advisory in advisories
        for name, version, _ in pins()
        if affected(advisory, name, version)
    }
    assert not known

"""The binary of Codex, where there is one."""

import os
import shutil
from pathlib import Path

import pytest

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "antiphon" / "codex"


@pytest.fixture(scope="session")
def codex() -> str:
    """The path of the binary; ``make test`` fetches it where npm is there."""
    fetched = _CACHE / "node_modules" / ".bin" / "codex"
    found = os.environ.get("ANTIPHON_CODEX") or (str(fetched) if fetched.exists() else shutil.which("codex"))
    if not found:
        pytest.skip("Codex is not installed here: make codex, or npm install -g @openai/codex")
    return found

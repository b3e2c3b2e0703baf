"""Shared by all tests: a clean environment, and the SDK pointed nowhere by accident."""

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("ANTIPHON_", "OPENAI_")) and name not in ("ANTIPHON_GOLDEN", "ANTIPHON_MODELS"):
            monkeypatch.delenv(name)

"""The reference page is what the docstrings say now."""

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType

import pytest

from antiphon import client

FOLDER = Path(__file__).parents[2] / "docs" / "reference"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(generator: ModuleType) -> None:
    assert (FOLDER / "python.md").read_text() == generator.page(), "make docs"


def test_the_page_shows_every_public_class(generator: ModuleType) -> None:
    shown = {thing for things in generator.SECTIONS.values() for thing in things}
    public = {getattr(client, name) for name in client.__all__}
    assert {kind for kind in public if inspect.isclass(kind)} <= shown

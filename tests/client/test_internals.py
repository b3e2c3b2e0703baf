"""What is used of the official SDK beyond its public interface stands in one module."""

import ast
from pathlib import Path

import pytest

import antiphon.client
from antiphon.client.sdk import internals

ROOT = Path(antiphon.client.__file__).parent
ELSEWHERE = [path for path in ROOT.rglob("*.py") if path != Path(internals.__file__)]


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_module_imports_private_names(path: Path) -> None:
    imports = [node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    private = [name for name in imports if name.startswith("openai.") and "._" in name]
    assert private == []

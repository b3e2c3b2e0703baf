"""The house rules that a machine can see."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from antiphon.config import Config
from antiphon.wire.kinds import KINDS

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = sorted(path for path in ROOT.glob("**/*.md") if ".venv" not in path.parts and ".pytest_cache" not in path.parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_states_its_promise_and_every_function_is_short(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module's docstring states its promise"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{node.name} is too long"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert documented == list(Config.__dataclass_fields__)


def test_no_module_is_named_after_nothing() -> None:
    assert not {path.stem for path in SOURCES} & {"utils", "util", "helpers", "common", "manager", "base", "misc"}


PLAIN = {"message", "reasoning", "function_call", "function_call_output"}
"""The kinds that models know; whoever speaks to a model may name them."""
OWNERS = (
    "wire/kinds.py",
    "wire/input_items.py",
    "wire/tool_specs.py",
    "wire/request.py",
    "tools/",
    "client/runs/",
    "client/runners/",
    "files/",
    "testing/",
)
"""The table, the shape of bodies, and what owns the items of tools, on either side of the wire."""
SHOWN = ("client/sdk/display.py", "client/sdk/parsing.py")
"""How the client shows and reads some items to people, each in its own way."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_kinds_of_items_are_named_in_their_table_and_by_their_tools_alone(path: Path) -> None:
    place = str(path.relative_to(ROOT / "src" / "antiphon"))
    if place.startswith((*OWNERS, *SHOWN)):
        return
    named = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    kinds = {kind for kind in KINDS if kind not in PLAIN and kind not in ALSO_WORDS}
    assert not named & kinds - ALLOWED.get(place, set()), "this is said in wire/kinds.py"


ALSO_WORDS = {"program", "compaction"}
"""Kinds whose names are also other words of the API: a reason, a type of ``context_management``."""
ALLOWED = {
    "wire/items.py": {"item_reference"},
    "context.py": {"item_reference", "compaction_trigger", "configuration_update"},
    "intake.py": {"item_reference", "compaction_trigger"},
    "compaction.py": {"compaction_trigger"},
    "engine/contexts.py": {"compaction_trigger"},
}
"""What says something about the context rather than about a tool is read where the context is made."""


def test_the_root_holds_the_path_and_nothing_else() -> None:
    assert len(list((ROOT / "src" / "antiphon").glob("*.py"))) <= 16


def imported(path: Path, modules: set[str]) -> set[str]:
    """The modules of ours that one imports when it runs, in its functions too."""
    tree = ast.parse(path.read_text())
    for_types = {id(node) for each in ast.walk(tree) if isinstance(each, ast.If) and "TYPE_CHECKING" in
                 ast.unparse(each.test) for body in each.body for node in ast.walk(body)}  # fmt: skip
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in for_types:
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in modules else node.module for name in inner}
    return found & modules


def test_no_module_leads_back_to_itself_by_imports() -> None:
    names = {path: ".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in SOURCES}
    names = {path: name.removesuffix(".__init__") for path, name in names.items()}
    modules = set(names.values()) - {"antiphon"}
    graph = {name: imported(path, modules) - {name} for path, name in names.items()}
    TopologicalSorter(graph).prepare()

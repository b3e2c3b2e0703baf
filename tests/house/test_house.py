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


OWNERS = ("wire/kinds.py", "wire/input_items.py", "wire/tool_specs.py", "wire/request.py", "tools/")
"""The table, the shape of bodies, and the tools, which own their items."""
LOWERED = {"function_call", "function_call_output"}
"""What models know of tools: only who speaks to one, or holds what one wrote, names them besides."""
SPEAKERS = ("models/", "http/chat", "compaction.py", "wire/items.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_kinds_of_items_are_named_in_their_table_and_by_their_tools_alone(path: Path) -> None:
    place = str(path.relative_to(ROOT / "src" / "antiphon"))
    if place.startswith(OWNERS):
        return
    named = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    kinds = set(KINDS) - ALSO_WORDS - (LOWERED if place.startswith(SPEAKERS) else set())
    assert not named & kinds - ALLOWED.get(place, set()), "this is said in wire/kinds.py"


ALSO_WORDS = {"message", "reasoning", "program", "compaction"}
"""Kinds whose names are also other words: a member of errors, a parameter, a type of ``context_management``."""
ALLOWED = {
    "wire/items.py": {"item_reference"},
    "context.py": {"item_reference", "compaction_trigger", "configuration_update"},
    "intake.py": {"item_reference", "compaction_trigger"},
    "compaction.py": {"compaction_trigger"},
    "engine/contexts.py": {"compaction_trigger"},
    "client/sdk/parsing.py": {"configuration_update"},
}
"""What says something about the context rather than about a tool is read where the context is made."""


PATH = ("intake", "context", "run", "turn", "assembler", "writer", "state", "log")
"""The modules that ARCHITECTURE.md numbers; the first two stations are folders, ``http`` and ``engine``."""
BESIDE = ("__init__", "__main__", "assembly", "config", "ids", "grammar", "truncation", "compaction")


def test_the_root_holds_the_path_and_nothing_else() -> None:
    assert {path.stem for path in (ROOT / "src" / "antiphon").glob("*.py")} == {*PATH, *BESIDE}


def test_the_path_stays_short_enough_to_be_read_at_once() -> None:
    lines = [(ROOT / "src" / "antiphon" / f"{name}.py").read_text().count("\n") for name in PATH]
    assert sum(lines) <= 2600


@pytest.mark.parametrize("name", [*PATH, "grammar", "truncation", "compaction"])
def test_each_module_of_the_path_has_its_own_file_of_tests(name: str) -> None:
    assert (ROOT / "tests" / "unit" / f"test_{name}.py").exists()


RETIRED = {"said", "told", "saying", "heard", "spoken", "retell", "upkeep", "errand", "courier", "undone", "doubting"}
"""Words that names were once made of, and that tell a reader nothing."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_are_made_of_plain_words(path: Path) -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name) | ast.Attribute(attr=name, ctx=ast.Store()):
                names.add(name)
            case _:
                pass
    assert not {name for name in names if RETIRED & set(name.lower().split("_"))}


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

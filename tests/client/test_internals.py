"""What is used of the official SDK beyond its public interface: no private import, and these attributes alone."""

import ast
import os
import subprocess
import sys
import venv
from pathlib import Path

import openai
import openai.resources.responses as official
import pytest
from openai.lib.streaming.responses import AsyncResponseStream, ResponseStream

import antiphon.client

ROOT = Path(antiphon.client.__file__).parent
TESTS = Path(__file__).parent
OLDEST = "openai==3.54.0"

ATTRIBUTES = {
    openai.OpenAI: ("_prepare_options", "_process_response_data"),
    openai.AsyncOpenAI: ("_prepare_options", "_process_response_data"),
    official.Responses: ("_client", "_post"),
    official.AsyncResponses: ("_client", "_post"),
    ResponseStream: ("_iterator",),
    AsyncResponseStream: ("_iterator",),
}
"""The SDK's private attributes that the client overrides or sets."""


@pytest.mark.parametrize("path", [*ROOT.rglob("*.py")], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_private_names(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imports = [f"{node.module}.{a.name}" for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names]
    imports += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    assert [name for name in imports if name.startswith("openai.") and "._" in name] == []


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, names in ATTRIBUTES.items() for name in names],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_private_attributes_exist(kind: type, name: str) -> None:
    assert hasattr(kind, name) or name in kind.__init__.__code__.co_names


@pytest.mark.skipif("ANTIPHON_OLDEST_SDK" not in os.environ, reason="set ANTIPHON_OLDEST_SDK=1: it installs an SDK")
def test_with_the_oldest_sdk_allowed_the_client_passes_its_tests(tmp_path: Path) -> None:
    requirement = OLDEST.replace("==", ">=").removesuffix(".0")
    assert f'"{requirement},<4"' in (TESTS.parents[1] / "pyproject.toml").read_text()
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", OLDEST], check=True)
    # Everything else comes from this environment, behind what the new one has of its own.
    here = [path for path in sys.path if path.endswith("site-packages")]
    [site] = (tmp_path / "lib").glob("python*/site-packages")
    (site / "rest.pth").write_text("\n".join(f"import site; site.addsitedir({path!r})" for path in here))
    version = [python, "-c", "import openai; print(openai.__version__)"]
    assert subprocess.run(version, check=True, capture_output=True, text=True).stdout.strip() == OLDEST[8:]
    names = ("internals", "results", "resumption", "text_format", "function_tool", "display")
    tests = [str(TESTS / f"test_{name}.py") for name in names]
    environment = {name: value for name, value in os.environ.items() if name != "ANTIPHON_OLDEST_SDK"}
    command = [python, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=TESTS.parents[1], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]

"""The clients with the embedded model in this process: its child process comes and goes with them."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon import AsyncOpenAI, OpenAI

SMALL = "smollm2-135m-instruct"

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, small_model_path: Path) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def children() -> set[int]:
    """The child processes of this one, whichever thread started them."""
    listed = (path.read_text().split() for path in Path("/proc/self/task").glob("*/children"))
    return {int(pid) for pids in listed for pid in pids}


@pytest.fixture
def no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


@pytest.mark.usefixtures("no_child_is_left")
def test_an_answer_and_a_stream(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = children()
    with OpenAI(data=tmp_path, embedded=SMALL) as client:
        raw = client.responses.with_raw_response.create(model="gpt-4", input="Hello!", max_output_tokens=16)
        assert raw.headers["x-antiphon-model"] == SMALL
        first = raw.parse()
        assert len(children() - before) == 1
        with client.responses.stream(
            model="gpt-4", input="And now?", previous_response_id=first.id, max_output_tokens=16
        ) as stream:
            assert "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert capfd.readouterr() == ("", ""), "nothing is printed"


@pytest.mark.usefixtures("no_child_is_left")
def test_asynchronous_clients_at_once(small_model_path: Path, tmp_path: Path) -> None:
    before = children()

    async def main() -> list[str]:
        async with (
            AsyncOpenAI(data=tmp_path, embedded=small_model_path) as one,
            AsyncOpenAI(data=tmp_path, embedded=small_model_path) as two,
        ):
            asked = [client.responses.create(model="m", input="Hi", max_output_tokens=16) for client in (one, two)]
            answers = await asyncio.gather(*asked)
            assert len(children() - before) == 1
            return [answer.output_text for answer in answers]

    assert all(asyncio.run(main()))


def test_the_models_process_ends_with_the_interpreter(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from antiphon import OpenAI
client = OpenAI(data=sys.argv[1], embedded="{SMALL}")
stream = iter(client.responses.create(model="m", input="Tell me a long story.", stream=True))
while next(stream).type != "response.output_text.delta":
    pass
for path in Path("/proc/self/task").glob("*/children"):
    print(path.read_text())
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    (pid,) = ran.stdout.split()
    assert not Path(f"/proc/{pid}").exists()

"""``input_file``: the text of a file reaches the model, however the file is given."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import file_samples as samples
import openai
import pytest
from openai import AsyncOpenAI

from antiphon.assembly import open_engine
from antiphon.config import Config
from antiphon.engine import file_inputs
from antiphon.engine.file_inputs import FileInputs
from antiphon.files.parsing import parse_file
from antiphon.models import Call, Finish
from antiphon.models.scripted import ScriptedModel
from antiphon.testing.serving import serving

PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
def model() -> ScriptedModel:
    return ScriptedModel(*["Yes."] * 9)


@asynccontextmanager
async def client_of(model: ScriptedModel, **config: Any) -> AsyncIterator[AsyncOpenAI]:
    async with (
        serving(model, config=Config(**config)) as url,
        AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


def asked(*files: Any) -> Any:
    parts = [{"type": "input_file", **file} for file in files]
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": "What is it?"}]}]


def data_url(data: bytes, kind: str = "application/octet-stream") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def read(model: ScriptedModel, number: int = -1) -> str:
    """What the model read last of the first message."""
    return "\n".join(part["text"] for part in model.prompts[number].items[0]["content"])


@asynccontextmanager
async def site(answers: dict[str, bytes]) -> AsyncIterator[tuple[str, list[str]]]:
    """Pages by path, each a whole HTTP answer, and the paths that were asked for."""
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.split()[1].decode())
        body = answers.get(seen[-1], b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n")
        writer.write(body)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def page(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def test_the_text_of_every_kind_of_file_reaches_the_model(model: ScriptedModel) -> None:
    async with client_of(model) as client:
        for data, name, text in (
            (samples.pdf(), "a.pdf", "[Page 2]\nHarvest begins in November."),
            (samples.docx(), "a.docx", "Lemon trees want water twice a week."),
            (samples.xlsx(), "a.xlsx", "Meyer"),
        ):
            await client.responses.create(model="m", input=asked({"filename": name, "file_data": data_url(data)}))
            assert read(model).startswith(f"{name}:\n") and text in read(model)
        bare = base64.b64encode(samples.docx()).decode()
        await client.responses.create(model="m", input=asked({"file_data": bare}))
        assert read(model).startswith("file:\n") and "Prune in March." in read(model)
        old = "Räksmörgås är gott på fredagar, sade hon och åt en till.".encode("latin-1")
        await client.responses.create(model="m", input=asked({"file_data": data_url(old, "text/plain")}))
        assert "Räksmörgås" in read(model)


async def test_a_stored_file_is_read_as_long_as_it_is_there(
    model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    async def parse(path: Path, name: str, limits: Any) -> Any:
        parsed.append(name)
        return await real(path, name, limits)

    real = file_inputs.parse_file
    monkeypatch.setattr(file_inputs, "parse_file", parse)
    async with client_of(model) as client:
        file = await client.files.create(file=("guide.pdf", samples.pdf()), purpose="user_data")
        first = await client.responses.create(model="m", input=asked({"file_id": file.id, "filename": "guide.pdf"}))
        (item,) = (await client.responses.input_items.list(first.id)).data
        assert item.to_dict()["content"][0] == {"type": "input_file", "file_id": file.id, "filename": "guide.pdf"}  # type: ignore[index]
        second = await client.responses.create(model="m", input="And?", previous_response_id=first.id)
        assert "Lemons need full sun." in read(model) and parsed == ["guide.pdf"], "read once for both"
        await client.files.delete(file.id)
        await client.responses.create(model="m", input="And now?", previous_response_id=second.id)
        assert "Lemons" not in read(model) and "can no longer be shown" in read(model)
        with pytest.raises(openai.NotFoundError) as error:
            await client.responses.create(model="m", input=asked({"file_id": file.id}))
        assert error.value.param == "input[0].content[0]"


async def test_a_stored_file_is_shown_under_its_name(model: ScriptedModel) -> None:
    async with client_of(model) as client:
        file = await client.files.create(file=("guide.pdf", samples.pdf()), purpose="user_data")
        first = await client.responses.create(model="m", input=asked({"file_id": file.id}))
        assert read(model).startswith("guide.pdf:\n[Page 1]")
        await client.responses.create(model="m", input="And?", previous_response_id=first.id)
        assert read(model).startswith("guide.pdf:\n[Page 1]"), "the same in later turns"
        await client.responses.create(model="m", input=asked({"file_id": file.id, "filename": "mine.pdf"}))
        assert read(model).startswith("mine.pdf:\n")


async def test_background_and_counting_read_files_too(model: ScriptedModel) -> None:
    async with client_of(model) as client:
        given = asked({"filename": "a.pdf", "file_data": data_url(samples.pdf())})
        counted = await client.responses.input_tokens.count(model="m", input=given)
        assert counted.input_tokens > 10
        response = await client.responses.create(model="m", input=given, background=True)
        async for _ in await client.responses.retrieve(response.id, stream=True):
            pass
        assert "Lemons need full sun." in read(model)


async def test_a_file_at_a_url(model: ScriptedModel) -> None:
    moved = b"HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: /docs/real.pdf\r\n\r\n"
    pages = {
        "/docs/real.pdf": page(samples.pdf()),
        "/moved": moved,
        "/loop": moved.replace(b"/docs/real.pdf", b"/loop"),
    }
    async with site(pages) as (url, seen), client_of(model, file_urls="private") as client:
        first = await client.responses.create(model="m", input=asked({"file_url": f"{url}/docs/real.pdf?x=1"[:-4]}))
        assert read(model).startswith("real.pdf:\n") and "Lemons need full sun." in read(model)
        await client.responses.create(model="m", input="And?", previous_response_id=first.id)
        assert "Lemons need full sun." in read(model) and len(seen) == 1, "an earlier turn's is not read again"
        await client.responses.create(model="m", input=asked({"file_url": f"{url}/moved"}))
        assert "Lemons need full sun." in read(model) and seen[1:] == ["/moved", "/docs/real.pdf"]
        for path, why in (("/loop", "broken"), ("/none", "status 404")):
            with pytest.raises(openai.BadRequestError, match=why):
                await client.responses.create(model="m", input=asked({"file_url": url + path}))


@pytest.mark.parametrize("setting", ["public", "off"])
async def test_urls_of_this_machine_are_not_read_unless_it_is_set(model: ScriptedModel, setting: str) -> None:
    async with site({"/a.txt": page(b"secret")}) as (url, seen), client_of(model, file_urls=setting) as client:
        for given in (f"{url}/a.txt", "file:///etc/passwd", "http://[", url.replace("127.0.0.1", "localhost")):
            with pytest.raises(openai.BadRequestError) as error:
                await client.responses.create(model="m", input=asked({"file_url": given}))
            assert error.value.param == "input[0].content[0]"
        assert seen == [] and model.prompts == []


REFUSED: list[tuple[Any, str]] = [
    ({}, "missing_required_parameter"),
    ({"file_id": "file-x", "file_data": "eA=="}, "mutually_exclusive_parameters"),
    ({"file_data": "data:text/plain,hello"}, "invalid_value"),
    ({"file_data": data_url(b"\x7fELF\0\0\0")}, "unsupported_file"),
    ({"file_data": data_url(b"%PDF-1.7 broken")}, "invalid_file"),
    ({"file_data": data_url(samples.pdf(password="x"))}, "invalid_file"),
    ({"file_data": data_url(b"\0" * 60_000)}, "file_too_large"),
]


@pytest.mark.parametrize(("part", "code"), REFUSED)
async def test_what_cannot_be_read_is_reported(model: ScriptedModel, part: Any, code: str) -> None:
    async with client_of(model, input_file_bytes_max=50_000) as client:
        with pytest.raises(openai.BadRequestError) as error:
            await client.responses.create(model="m", input=[{"role": "user", "content": "Hi"}, *asked(part)])
        assert (error.value.code, error.value.param) == (code, "input[1].content[0]")
        assert model.prompts == []


async def test_files_of_a_context_are_bounded_together(model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_inputs, "TEXT_CHARS_MAX", 1000)
    text = {"file_data": data_url(b"x" * 600, "text/plain")}
    async with client_of(model) as client:
        with pytest.raises(openai.BadRequestError, match="too large together"):
            await client.responses.create(model="m", input=asked(text, text))
        first = await client.responses.create(model="m", input=asked(text))
        await client.responses.create(model="m", input=asked(text), previous_response_id=first.id)
        assert "can no longer be shown" in read(model), "of an earlier turn only a note is left"


async def test_a_stored_image_is_shown_to_a_model_that_sees(model: ScriptedModel) -> None:
    async with client_of(model) as client:
        file = await client.files.create(file=("dot.png", PNG), purpose="vision")
        image = {"type": "input_image", "file_id": file.id, "detail": "low"}
        await client.responses.create(model="m", input=[{"role": "user", "content": [image]}])  # type: ignore[arg-type]
        assert model.prompts[0].items[0]["content"][0]["image_url"] == data_url(PNG, "image/png")


async def test_a_screen_may_be_a_stored_image() -> None:
    click = Call(0, "computer", '{"actions":[{"type":"screenshot"}]}', "call_1")
    model = ScriptedModel([click, Finish()], "I see.", "Still.")
    tools: Any = [{"type": "computer"}]
    async with client_of(model) as client:
        file = await client.files.create(file=("dot.png", PNG), purpose="vision")
        first = await client.responses.create(model="m", input="Look.", tools=tools)

        async def answer(**screen: str) -> str:
            output: Any = {"type": "computer_call_output", "call_id": "call_1", "output": screen}
            made = await client.responses.create(model="m", tools=tools, input=[output], previous_response_id=first.id)
            return made.id

        seen = await answer(type="computer_screenshot", file_id=file.id)
        assert model.prompts[-1].items[-1]["output"][1]["image_url"] == data_url(PNG, "image/png")
        with pytest.raises(openai.BadRequestError) as caught:
            await answer(type="computer_screenshot")
        assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "input[0].output")
        with pytest.raises(openai.NotFoundError):
            await answer(type="computer_screenshot", file_id="file-nope")
        await client.files.delete(file.id)
        await client.responses.create(model="m", input="And now?", previous_response_id=seen)
        (told,) = [item["output"] for item in model.prompts[-1].items if item["type"] == "function_call_output"]
    assert "can no longer be shown" in told[0]["text"]


@pytest.mark.parametrize(
    "url", ["//127.0.0.1", "file:///etc/passwd", "127.0.0.1", "http:", "http://", "data:text/plain,x"]
)
async def test_what_is_no_address_is_reported(model: ScriptedModel, url: str) -> None:
    async with client_of(model) as client:
        with pytest.raises(openai.BadRequestError, match="could not be downloaded"):
            await client.responses.create(model="m", input=asked({"file_url": url}))


async def test_what_is_read_lies_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: ScriptedModel
) -> None:
    places: list[Path] = []

    async def note(path: Path, name: str, limits: Any) -> Any:
        places.append(path)
        return await parse_file(path, name, limits)

    monkeypatch.setattr(file_inputs, "parse_file", note)
    inputs = FileInputs(Any, Any, bytes_max=1000, urls="public", scratch=tmp_path)
    (item,) = asked({"filename": "a.txt", "file_data": data_url(b"Hello")})
    _, (shown,) = await inputs.shown("p", (), [{"type": "message", **item}])
    assert "Hello" in str(shown)
    assert [place.is_relative_to(tmp_path) for place in places] == [True]
    assert list(tmp_path.iterdir()) == []


async def test_what_a_killed_process_left_there_goes_with_the_next_start(tmp_path: Path) -> None:
    left = tmp_path / "scratch" / "antiphon-killed"
    left.mkdir(parents=True)
    (left / "file").write_text("secret")
    async with open_engine(Config(data=tmp_path, upstream="http://127.0.0.1:9/v1"), None):
        assert list((tmp_path / "scratch").iterdir()) == []
        assert (tmp_path / "scratch").stat().st_mode & 0o777 == 0o700

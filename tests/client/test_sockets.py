"""``responses.connect`` without a port: through a pair of sockets, or to the server that owns the folder."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets import ConnectionClosedError

from antiphon import AsyncOpenAI, OpenAI
from antiphon.cli import main
from antiphon.config import Config
from antiphon.models.scripted import ScriptedModel
from antiphon.store.sqlite.lock import FolderLock
from antiphon.testing.inprocess import scripted
from antiphon.testing.serving import serving

pytestmark = [
    pytest.mark.usefixtures("nothing_is_left"),
    # The official SDK's, which calls the library in a way that is on its way out.
    pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning"),
]


def said(connection: Any, **create: Any) -> Any:
    """The response of one turn."""
    connection.response.create(model="m", input="Hi", **create)
    return next(event.response for event in connection if event.type == "response.completed")


async def said_async(connection: Any, **create: Any) -> Any:
    await connection.response.create(model="m", input="Hi", **create)
    async for event in connection:
        if event.type == "response.completed":
            return event.response
    return None


def test_a_conversation_in_this_process(tmp_path: Path) -> None:
    with OpenAI(data=tmp_path, engine=scripted(ScriptedModel("one", "two", "three"))) as client:
        with client.responses.connect() as connection:
            first = said(connection, store=False)
            second = said(connection, previous_response_id=first.id)
            assert (first.output_text, second.output_text) == ("one", "two")
        with client.responses.connect(websocket_connection_options={"max_size": 1 << 20}) as connection:
            assert said(connection, previous_response_id=second.id).output_text == "three"
        assert client.responses.retrieve(second.id).output_text == "two"


async def test_a_conversation_in_this_process_async(tmp_path: Path) -> None:
    engine = scripted(ScriptedModel("one", "two"))
    async with AsyncOpenAI(data=tmp_path, engine=engine) as client, client.responses.connect() as connection:
        first = await said_async(connection, store=False)
        assert (await said_async(connection, previous_response_id=first.id)).output_text == "two"


def test_no_key_is_asked_for_though_there_are_some(tmp_path: Path) -> None:
    assert main(["keys", "create", "--data", str(tmp_path)]) == 0
    with (
        OpenAI(data=tmp_path, engine=scripted(ScriptedModel("one"))) as client,
        client.responses.connect() as connection,
    ):
        assert said(connection).output_text == "one"


def test_closing_the_client_closes_the_connection(tmp_path: Path) -> None:
    client = OpenAI(data=tmp_path, engine=scripted(ScriptedModel("one")))
    with client.responses.connect() as connection:
        assert said(connection).output_text == "one"
        client.close()
        with pytest.raises(ConnectionClosedError, match="1012"):
            list(connection)


@pytest.fixture
async def owned(tmp_path: Path) -> AsyncIterator[Path]:
    """A folder that a server owns which listens at a port."""
    lock = FolderLock.take(tmp_path)
    async with serving(ScriptedModel("one", again=True), config=Config(data=tmp_path)) as url:
        lock.announce(url)
        yield tmp_path
    lock.release()


async def test_a_conversation_with_the_server_that_owns_the_folder(owned: Path) -> None:
    async with AsyncOpenAI(data=owned) as client, client.responses.connect() as connection:
        assert (await said_async(connection)).output_text == "one"

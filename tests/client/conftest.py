"""What the tests of the clients share."""

import threading
from collections.abc import Iterator

import pytest

from antiphon.client.inprocess.host import HOSTS


@pytest.fixture
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The environment names no server and no key; afterwards no engine is there, no thread of one, and none failed."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield
    for host in list(HOSTS._hosts):
        assert host.closing, "a client was not closed"
        host.wait_until_closed(20)
    assert HOSTS._hosts == []
    assert [thread for thread in threading.enumerate() if thread.name.startswith("antiphon")] == []
    assert [record for record in caplog.records if record.name == "antiphon.client"] == []

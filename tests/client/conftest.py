"""What the tests of the clients share: what is left, calls as a response holds them, and pages for a browser."""

import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from openai.types.responses import Response

from antiphon.client.inprocess.host import HOSTS
from antiphon.client.sdk.tool_calls import ToolCall, tool_calls

Asked = Callable[..., ToolCall]


@pytest.fixture
def asked() -> Asked:
    """Makes the call that an output item is, read as the official SDK reads it."""

    def made(kind: str, **fields: Any) -> ToolCall:
        item = {"type": kind, "id": "item_1", "call_id": "call_1", "status": "completed", **fields}
        response = Response.construct(id="resp_1", output=[item])
        (call,) = tool_calls(response.output)
        return call

    return made


PAGES = {
    "/": """<title>Start</title><style>body{margin:0} button,input,#box,#drop{position:absolute}</style>
<button id=b style="left:100px;top:100px;width:100px;height:40px">Press me</button>
<input id=i aria-label=Name style="left:100px;top:200px;width:200px">
<div id=box style="left:300px;top:300px;width:50px;height:50px;background:red"></div>
<div id=drop style="left:500px;top:300px;width:100px;height:100px;background:blue"></div>
<a href=/next style="position:absolute;left:100px;top:400px">Next page</a>
<iframe src=/frame style="position:absolute;left:600px;top:100px;border:0;width:200px;height:100px"></iframe>
<div style="position:absolute;top:3000px">Far <button>Down there</button></div><p id=log aria-live=polite></p>
<script>
const log = text => document.getElementById('log').textContent += text + ';';
for (const kind of ['click', 'dblclick', 'auxclick', 'contextmenu'])
  document.addEventListener(kind, e =>
    log(`${kind}${e.button}${e.shiftKey ? '+shift' : ''}@${e.clientX},${e.clientY}`));
document.addEventListener('keydown', e => log(`${e.ctrlKey ? 'ctrl+' : ''}${e.key}`));
let dragged = false;
document.getElementById('box').onmousedown = () => dragged = true;
document.getElementById('drop').onmouseup = () => dragged && log('dropped');
document.getElementById('box').onmouseover = () => log('over');
addEventListener('scroll', () => document.title = `at ${scrollX},${scrollY}`);
</script>""",
    "/frame": "<body style='margin:0'><button style='margin:10px;width:80px;height:20px'>Inner</button>",
    "/next": "<title>Next</title><h1>The next page</h1>",
    "/popup": "<title>Opener</title><a href=/next target=_blank style='position:absolute;left:10px;top:10px'>open</a>",
    "/dialog": "<title>Asks</title><body style='margin:0'><button onclick=\"alert('Hello there')\">Greet</button>",
}


class Site(http.server.BaseHTTPRequestHandler):
    """Serves the pages; remembers what it was asked for."""

    seen: list[str]
    elsewhere = ""

    def do_GET(self) -> None:
        self.seen.append(self.path)
        pages = {
            **PAGES,
            "/leave": f"<title>Leaves</title><img src='{self.elsewhere}/img'><script>fetch('{self.elsewhere}/fetch');"
            f"new WebSocket('{self.elsewhere.replace('http', 'ws')}/ws')</script>"
            f"<a href='{self.elsewhere}/link' style='position:absolute;left:10px;top:10px'>out</a>",
        }
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", f"{self.elsewhere}/redirected")
            self.end_headers()
            return
        body = pages.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


def serving(elsewhere: str = "") -> tuple[http.server.ThreadingHTTPServer, list[str], str]:
    seen: list[str] = []
    handler = type("Handler", (Site,), {"seen": seen, "elsewhere": elsewhere})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, seen, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def other() -> Iterator[tuple[list[str], str]]:
    """A site that the browser may not reach."""
    server, seen, url = serving()
    yield seen, url
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def site(other: tuple[list[str], str]) -> Iterator[str]:
    server, _, url = serving(other[1])
    yield url
    server.shutdown()
    server.server_close()


@pytest.fixture
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The environment names no server and no key; afterwards no engine is there, no thread of one, and none failed."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield
    hosts = list(HOSTS._hosts)
    left = [host for host in hosts if not host.closing]
    for host in left:
        host.stop()  # this test fails; those that follow begin with nothing
    for host in hosts:
        host.wait_until_closed(20)
    assert not left, "a client was not closed"
    assert HOSTS._hosts == []
    assert [thread for thread in threading.enumerate() if thread.name.startswith("antiphon")] == []
    assert [record for record in caplog.records if record.name == "antiphon.client"] == []

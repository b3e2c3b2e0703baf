"""Asks the server that owns a data folder to do what only the owner of the folder may. The proof is the token that
it wrote into the folder: whoever can read that can read everything in there.
"""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

import msgspec

from antiphon.store import Purge, Purged, StoreUnavailable
from antiphon.store.sqlite import Owner

_ANSWER_S = 60.0
"""How long the server may take for one step."""
_ANSWER_BYTES_MAX = 1 << 20
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that a server can listen on but nobody can connect to, and where it is reached on this machine."""


def purge_by(owner: Owner, purge: Purge) -> Purged:
    """Have the server delete the selection, step by step, until nothing is left of it.

    Raises:
        StoreUnavailable: the server does not answer as it should; earlier steps are done.
    """
    whole = Purged()
    while (step := _purge_step(owner, purge)).any:
        whole += step
    return whole + step


def _purge_step(owner: Owner, purge: Purge) -> Purged:
    body = msgspec.json.encode(purge)
    headers = {"Authorization": f"Bearer {owner.token}", "Content-Type": "application/json"}
    connection = _connection(owner)
    try:
        connection.request("POST", "/antiphon/purge", body, headers)
        answer = connection.getresponse()
        text = answer.read(_ANSWER_BYTES_MAX)
        if answer.status != http.client.OK:
            raise StoreUnavailable(f"The server, {owner}, answers {answer.status}: {text.decode(errors='replace')}")
        return msgspec.json.decode(text, type=Purged)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise StoreUnavailable(f"The server, {owner}, did not answer as expected: {error}") from error
    finally:
        connection.close()


def _connection(owner: Owner) -> http.client.HTTPConnection:
    """A connection to the owner; never through a proxy that the environment names."""
    if owner.socket:
        return _UnixConnection(owner.socket)
    place = urlsplit(owner.url or "")
    host = place.hostname or ""
    return http.client.HTTPConnection(_UNSPECIFIED.get(host, host), place.port, timeout=_ANSWER_S)


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a socket file."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        """See ``http.client.HTTPConnection.connect``."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

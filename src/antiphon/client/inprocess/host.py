"""The engine in this process: a thread with an event loop of its own, shared by all clients of one folder.

A host lives as long as somebody holds a lease on it. The thread is a daemon, so that a fetch of a model never holds up
the interpreter's end; at that end every host is closed in order (``atexit``), with its model's process and its store.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import fields
from typing import TYPE_CHECKING, TypeAlias, cast

import httpx2
from openai import APIConnectionError

from antiphon.client.inprocess.exchange import (
    POLL_S,
    AsgiExchange,
    Inbox,
    get_scheduler,
)
from antiphon.config import Config

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

    from antiphon.client.inprocess.socket_server import SocketServer
    from antiphon.engine import Engine
    from antiphon.models.embedded.llamacpp import Settings
    from antiphon.store.sqlite import Owner

log = logging.getLogger("antiphon.client")
# A library prints nothing by itself: without a handler Python would write warnings to standard error.
logging.getLogger("antiphon").addHandler(logging.NullHandler())

Opener: TypeAlias = "Callable[[Config, str], AbstractAsyncContextManager[Engine]]"
"""Opens an engine: its configuration, and where other processes find it (empty: nowhere)."""

DRAIN_S = 2.0
"""How long open calls may take to notice that the host closes."""
EXIT_S = 10.0
"""How long the interpreter's end waits for a host, beyond what its settings give to work in the background."""

LOCATE_S = 2.0
"""How long it waits for one that was still fetching its model."""


class EngineError(APIConnectionError):
    """The engine could not be opened in this process; the text says why, for people."""

    def __init__(self, message: str, request: httpx2.Request | None = None) -> None:
        super().__init__(message=message, request=request or httpx2.Request("POST", "http://antiphon.invalid/v1"))


class OwnedElsewhere(Exception):
    """Another process owns the folder.

    Attributes:
        owner: that process.
    """

    def __init__(self, message: str, owner: Owner | None) -> None:
        super().__init__(message)
        self.owner = owner


class Lease:
    """The right to a host's service, until it is released."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def release(self) -> None:
        """Give it back; the last one closes the host. Returns at once, and may be called while garbage is collected."""
        self.host.leases.discard(self)
        if not self.host.leases:
            self.host.stop()


class Host:
    """One engine in its thread. Made by ``Hosts.lease``.

    Attributes:
        leases: who holds it open. Only added to under the lock of ``Hosts``.
        closing: whether it takes no more leases.
        pid: the process it lives in; a fork has it not.
    """

    def __init__(self, config: Config, opener: Opener | None, after: Host | None) -> None:
        self.config = config
        self.opener = opener
        self.leases: set[Lease] = set()
        self.closing = False
        self.pid = os.getpid()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._app: ASGIApp | None = None
        self._socket_server: SocketServer | None = None
        self._after = after
        self._halt: Callable[[], object] | None = None
        self._opened: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._starting: set[AsgiExchange] = set()
        self._exchanges: set[tuple[AsgiExchange, asyncio.Task[None]]] = set()
        self._admissions: set[asyncio.Task[None]] = set()
        self.thread = threading.Thread(target=self._run, name="antiphon-engine", daemon=True)

    # Any thread

    def wait_until_open(self) -> None:
        """Wait until the engine is there.

        Raises:
            OwnedElsewhere: another process owns the folder.
            EngineError: it cannot be opened.
        """
        self._refuse_own_thread()
        while not self._opened.done():
            with suppress(TimeoutError):
                self._opened.exception(POLL_S)
        _raise_error_of(self._opened)

    async def wait_until_open_async(self) -> None:
        """See ``wait_until_open``."""
        self._refuse_own_thread()
        await _wait_for(self._opened)
        _raise_error_of(self._opened)

    def wait_until_closed(self, timeout_s: float | None = None) -> None:
        """Wait until everything is closed, or ``timeout_s`` is over."""
        if threading.current_thread() is not self.thread:
            self.thread.join(timeout_s)

    async def wait_until_closed_async(self) -> None:
        """See ``wait_until_closed``."""
        await _wait_for(self._ended)
        self.thread.join()  # the last thing it did was to say so

    @property
    def alive(self) -> bool:
        """Whether calls can be made, now or once it is open."""
        return not self.closing and self.pid == os.getpid()

    def stop(self) -> None:
        """Begin to close. Returns at once; harmless when repeated."""
        self.closing = True
        halt, loop = self._halt, self.loop
        if halt is not None and loop is not None and self.pid == os.getpid():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(halt)

    def make_exchange(self, scope: Scope, body: bytes, inbox: Inbox) -> AsgiExchange:
        """A call that is yet to begin."""
        assert self.loop is not None and self._app is not None, "only once it is open"
        return AsgiExchange(self.loop, self._app, scope, body, inbox)

    def start(self, exchange: AsgiExchange) -> None:
        """Start a call.

        Raises:
            httpx2.ConnectError: the host was closed meanwhile.
        """
        assert self.loop is not None
        self._starting.add(exchange)
        try:
            self.loop.call_soon_threadsafe(self._start, exchange)
        except RuntimeError:
            self._starting.discard(exchange)
            raise httpx2.ConnectError("The engine was closed.") from None

    def connect(self) -> socket.socket:
        """One end of a new connection to the engine, for what speaks HTTP or WebSocket on sockets.

        Raises:
            httpx2.ConnectError: the host was closed meanwhile.
        """
        assert self.loop is not None, "only once it is open"
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        try:
            self.loop.call_soon_threadsafe(self._accept, theirs)
        except RuntimeError:
            ours.close()
            theirs.close()
            raise httpx2.ConnectError("The engine was closed.") from None
        return ours

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self.thread:
            raise RuntimeError("the engine's own thread cannot wait for the engine: use its store and models directly")

    # The host's thread

    def _start(self, exchange: AsgiExchange) -> None:
        assert self.loop is not None
        self._starting.discard(exchange)
        task = self.loop.create_task(exchange.run())
        entry = (exchange, task)
        self._exchanges.add(entry)
        task.add_done_callback(lambda _: self._exchanges.discard(entry))

    def _accept(self, end: socket.socket) -> None:
        assert self.loop is not None and self._socket_server is not None
        task = self.loop.create_task(self._socket_server.accept(end))
        self._admissions.add(task)
        task.add_done_callback(self._admissions.discard)

    def _run(self) -> None:
        try:
            self._open_and_serve()
        except BaseException as error:
            self._fail(error)
        finally:
            HOSTS.forget(self)
            for exchange in list(self._starting):
                # It came when the event loop had made its last turn.
                exchange.fail_closed()
            self._ended.set_result(None)

    def _open_and_serve(self) -> None:
        if self._after is not None:
            self._after.wait_until_closed()
            self._after = None
        _refuse_folder_in_use(self.config)
        located = None if self.opener else _locate_model(self)
        loop = self.loop = _new_loop()
        pool = ThreadPoolExecutor(thread_name_prefix="antiphon-engine")
        loop.set_default_executor(pool)
        try:
            loop.run_until_complete(self._serve(located))
        finally:
            _close_loop(loop)
            pool.shutdown()

    def _fail(self, error: BaseException) -> None:
        self.closing = True
        HOSTS.forget(self)
        if not self._opened.done():
            self._opened.set_exception(_translate_error(error))
        else:
            log.error("the engine stopped unexpectedly", exc_info=error)

    async def _serve(self, located: Settings | None) -> None:
        from antiphon.client.inprocess.socket_server import SocketServer, open_socket_file
        from antiphon.http.app import HttpApp
        from antiphon.http.auth import trust_callers
        from antiphon.http.body import BodyBudget

        over = asyncio.Event()
        self._set_halt(cast("asyncio.Task[None]", asyncio.current_task()).cancel)
        async with AsyncExitStack() as stack:
            file = open_socket_file(self.config)
            if file is not None:
                stack.callback(file.close)
            engine = await stack.enter_async_context(self._engine(located, file.url if file else ""))
            bodies = BodyBudget(self.config.bodies_bytes_max)
            app = HttpApp(engine, bodies)
            await stack.enter_async_context(app.alive())
            socket_server = self._socket_server = SocketServer(app, self.config, bodies)
            stack.push_async_callback(socket_server.close)
            if file is not None:
                await socket_server.listen(file)
            self._app = trust_callers(app)
            self._set_halt(over.set)
            self._opened.set_result(None)
            await over.wait()
            await self._drain()

    def _set_halt(self, halt: Callable[[], object]) -> None:
        """``stop`` calls ``halt`` from now on, and if it was called before."""
        self._halt = halt
        if self.closing:
            halt()

    def _engine(self, located: Settings | None, url: str) -> AbstractAsyncContextManager[Engine]:
        if self.opener is not None:
            return self.opener(self.config, url)
        from antiphon.assembly import open_engine

        return open_engine(self.config, None, url, located)

    async def _drain(self) -> None:
        """Have all calls end: first by telling them that their readers left, then by force."""
        for exchange, _ in self._exchanges:
            exchange.disconnect()
        tasks = {task for _, task in self._exchanges}
        if tasks:
            await asyncio.wait(tasks, timeout=DRAIN_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _raise_error_of(opened: Future[None]) -> None:
    """Raise what the future holds, as an exception of this waiter's own."""
    error = opened.exception()
    if isinstance(error, OwnedElsewhere):
        raise OwnedElsewhere(str(error), error.owner) from error
    if error is not None:
        raise EngineError(str(error)) from error


async def _wait_for(future: Future[None]) -> None:
    """Wait until a future of another thread is done."""
    import anyio

    schedule, done = get_scheduler(), anyio.Event()

    def tell(_: Future[None]) -> None:
        with suppress(RuntimeError):  # the waiter's loop is closed
            schedule(done.set)

    future.add_done_callback(tell)
    await done.wait()


def _new_loop() -> asyncio.AbstractEventLoop:
    # On Windows only this kind runs child processes, whatever the program has chosen for its own loops.
    return asyncio.ProactorEventLoop() if sys.platform == "win32" else asyncio.new_event_loop()


def _close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Close the loop without starting a thread: at the interpreter's end there are no new ones (from Python 3.12)."""
    try:
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _refuse_folder_in_use(config: Config) -> None:
    """Asked before a model is fetched for nothing; opening asks again."""
    from antiphon.store.sqlite import FolderInUse, owner_of

    owner = owner_of(config.data) if config.store == "sqlite" else None
    if owner is not None:
        raise FolderInUse(config.data, owner)


def _locate_model(host: Host) -> Settings | None:
    """The embedded model, fetched where it has to be: here, where nobody's event loop waits for it.

    Raises:
        CannotEmbed: there is no such model.
        Abandoned: it was being fetched, and nobody wants it any more.
    """
    config = host.config
    if config.upstream:
        return None
    from antiphon.client.inprocess.progress import CancellableProgress
    from antiphon.models import embedded

    reporter = CancellableProgress(lambda: host.closing)
    return embedded.locate(config.model, config.data, log.debug, config.threads, reporter)


def _translate_error(error: BaseException) -> BaseException:
    from antiphon.store.sqlite import FolderInUse

    for cause in (error, error.__cause__):
        if isinstance(cause, FolderInUse):
            return OwnedElsewhere(str(cause), cause.owner)
    return error


class HostRegistry:
    """The hosts of this process, one per folder."""

    def __init__(self) -> None:
        # Reentrant: a lease may be released by the garbage collector in any line of ours.
        self._lock = threading.RLock()
        self._hosts: list[Host] = []

    def lease(self, config: Config, opener: Opener | None = None) -> Lease:
        """A lease on the host of the configuration's folder; one is started where there is none. Does not wait.

        Raises:
            EngineError: it is open with other settings.
        """
        with self._lock:
            while True:
                host = self._host(config, opener)
                lease = Lease(host)
                host.leases.add(lease)
                if not host.closing:
                    return lease
                host.leases.discard(lease)

    def _host(self, config: Config, opener: Opener | None) -> Host:
        last = None
        for host in self._hosts:
            if not _is_shared(host, config, opener):
                continue
            if host.closing:
                last = host
                continue
            _refuse_other_settings(host, config, opener)
            return host
        host = Host(config, opener, last)
        self._hosts.append(host)
        host.thread.start()
        return host

    def forget(self, host: Host) -> None:
        """It is over, or never came to be."""
        with self._lock:
            if host in self._hosts:
                self._hosts.remove(host)

    def close(self) -> None:
        """Close all, and wait for it: what happens when the interpreter ends."""
        with self._lock:
            hosts = list(self._hosts)
        for host in hosts:
            host.stop()
        for host in hosts:
            # One that is still looking for its model has nothing to close but that search.
            host.wait_until_closed(LOCATE_S if host.loop is None else EXIT_S + host.config.drain_s)

    def fork(self) -> None:
        """Forget what a forked child has not: threads, and so hosts."""
        self._lock = threading.RLock()
        self._hosts = []


def _is_shared(host: Host, config: Config, opener: Opener | None) -> bool:
    """Whether both want one folder; without a database, whether they want the same in all."""
    if config.store == "memory" or host.config.store == "memory":
        return host.config == config and host.opener is opener
    return host.config.data == config.data


def _refuse_other_settings(host: Host, config: Config, opener: Opener | None) -> None:
    differing = [
        entry.name for entry in fields(Config) if getattr(config, entry.name) != getattr(host.config, entry.name)
    ]
    if host.opener is not opener:
        differing.append("engine")
    if differing:
        raise EngineError(
            f"The folder {config.data} is open in this process already, with another {' and '.join(differing)}."
            " One engine serves a folder: use the same settings, another folder (data=…), or close those clients first."
        )


HOSTS = HostRegistry()
atexit.register(HOSTS.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=HOSTS.fork)

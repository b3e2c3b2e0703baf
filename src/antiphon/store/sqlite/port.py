"""How the methods of a port are made of functions that work on a connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from antiphon.store.sqlite.executor import Execute

P = ParamSpec("P")
T = TypeVar("T")
Statements: TypeAlias = Callable[Concatenate[sqlite3.Connection, P], T]
Method: TypeAlias = "Callable[Concatenate[Any, P], CoroutineType[Any, Any, T]]"


class Port:
    """One resource on the threads of a ``SqliteStore``.

    Args:
        read: carries work to a connection that reads.
        write: carries work to the connection that commits.
    """

    def __init__(self, read: Execute, write: Execute) -> None:
        self._read = read
        self._write = write


def reading(work: Statements[P, T]) -> Method[P, T]:
    """A port's method that does ``work`` on a connection that reads; it takes what ``work`` takes behind that."""

    async def method(port: Port, *args: P.args, **kwargs: P.kwargs) -> T:
        return await port._read(lambda db: work(db, *args, **kwargs))  # pyright: ignore[reportPrivateUsage]

    return method


def writing(work: Statements[P, T]) -> Method[P, T]:
    """The same on the connection that commits; callers of one moment share a transaction."""

    async def method(port: Port, *args: P.args, **kwargs: P.kwargs) -> T:
        return await port._write(lambda db: work(db, *args, **kwargs))  # pyright: ignore[reportPrivateUsage]

    return method

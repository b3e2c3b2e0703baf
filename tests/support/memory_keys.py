"""Keys and usage in dictionaries, for tests that make keys of their own."""

from collections.abc import Sequence

from antiphon.store.keys import Key, Spent, sort_usage


class MemoryKeys:
    """A ``KeyStore`` and a ``UsageStore``; ``kept`` are its keys."""

    def __init__(self) -> None:
        self.kept: list[Key] = []
        self._spent: dict[tuple[str, str], Spent] = {}

    async def read_keys(self) -> Sequence[Key]:
        """See ``KeyStore.read_keys``."""
        return list(self.kept)

    async def add_usage(self, spent: Sequence[Spent]) -> None:
        """See ``UsageStore.add_usage``."""
        for entry in spent:
            place = (entry.day, entry.key_id)
            kept = self._spent.get(place)
            self._spent[place] = kept + entry if kept else entry

    async def read_usage(self, first_day: str, last_day: str) -> Sequence[Spent]:
        """See ``UsageStore.read_usage``."""
        return sort_usage(entry for entry in self._spent.values() if first_day <= entry.day <= last_day)

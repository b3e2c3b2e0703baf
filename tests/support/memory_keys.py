"""Keys and usage in dictionaries, for tests that make keys of their own."""

from collections.abc import Sequence

from antiphon.store.keys import Key, Spent, in_order


class MemoryKeys:
    """A ``KeyStore``; ``kept`` are its keys."""

    def __init__(self) -> None:
        self.kept: list[Key] = []
        self._spent: dict[tuple[str, str], Spent] = {}

    async def keys(self) -> Sequence[Key]:
        """See ``KeyStore.keys``."""
        return list(self.kept)

    async def spend(self, spent: Sequence[Spent]) -> None:
        """See ``KeyStore.spend``."""
        for entry in spent:
            place = (entry.day, entry.key_id)
            kept = self._spent.get(place)
            self._spent[place] = kept + entry if kept else entry

    async def usage(self, first_day: str, last_day: str) -> Sequence[Spent]:
        """See ``KeyStore.usage``."""
        return in_order(entry for entry in self._spent.values() if first_day <= entry.day <= last_day)

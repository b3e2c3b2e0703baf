"""Keys and usage in dictionaries, for tests that make keys of their own."""

from collections.abc import Sequence

from antiphon.store.keys import Charge, ChargeQuery, Key, Spent, sort_usage


class MemoryKeys:
    """A ``KeyStore`` and a ``UsageStore``; ``kept`` are its keys."""

    def __init__(self) -> None:
        self.kept: list[Key] = []
        self.charges: list[Charge] = []
        self._spent: dict[tuple[str, str], Spent] = {}

    async def read_keys(self) -> Sequence[Key]:
        """See ``KeyStore.read_keys``."""
        return list(self.kept)

    async def add_usage(self, spent: Sequence[Spent], charges: Sequence[Charge] = ()) -> None:
        """See ``UsageStore.add_usage``."""
        self.charges += charges
        for entry in spent:
            place = (entry.day, entry.key_id)
            kept = self._spent.get(place)
            self._spent[place] = kept + entry if kept else entry

    async def read_usage(self, first_day: str, last_day: str) -> Sequence[Spent]:
        """See ``UsageStore.read_usage``."""
        return sort_usage(entry for entry in self._spent.values() if first_day <= entry.day <= last_day)

    async def read_charges(self, query: ChargeQuery, limit: int) -> Sequence[Charge]:
        """All of them: no test asks this store for some."""
        return self.charges[::-1][:limit]

    async def sum_charges(self, query: ChargeQuery) -> Sequence[tuple[str, Spent]]:
        """Not summed: no test asks this store for it."""
        return [(charge.model, charge.spent) for charge in self.charges]

    async def forget_charges(self, before: int, limit: int) -> int:
        """Nothing is old here."""
        return 0

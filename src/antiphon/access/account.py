"""The account of one response: admitted by its key, settled once, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import msgspec

from antiphon.access.keyring import Admission, Keyring
from antiphon.access.pricing import Price
from antiphon.models import PROBED, Usage

CountUsage = Callable[[bool], tuple[Usage, bool]]
"""What was used, told whether the response failed; and whether that had to be estimated."""


class Bill(msgspec.Struct):
    """What the end of a response means for its account.

    Attributes:
        failed: whether it failed; a caller who left did not make it fail.
        due: whether there is anything to settle; False where somebody else goes on with it, and settles then.
        probed: what was used meanwhile by samples that nobody was shown (``PROBED``).
    """

    failed: bool = False
    due: bool = True
    probed: list[Usage] = []


class Account(msgspec.Struct, frozen=True):
    """A key's admission of one response; without a keyring nobody counts, and without a price it costs nothing.

    Attributes:
        response_id, model: what it is charged for.
    """

    keyring: Keyring | None = None
    admission: Admission = Admission()
    price: Price | None = None
    response_id: str = ""
    model: str = ""

    @classmethod
    def open(cls, keyring: Keyring, key_id: str, tokens: Callable[[], int]) -> Account:
        """Let a response begin, and reserve the tokens that it is estimated to need.

        Raises:
            RateLimited, InsufficientQuota: see ``Keyring.admit``.
        """
        return cls(keyring, keyring.admit(key_id, tokens))

    @contextmanager
    def settling(self, count: CountUsage) -> Generator[Bill]:
        """Settle when the block ends, however it ends: the one exit."""
        bill = Bill()
        token = PROBED.set(bill.probed)
        try:
            yield bill
        except Exception:
            bill.failed = True
            raise
        finally:
            PROBED.reset(token)
            if bill.due and self.keyring is not None:
                used, estimated = count(bill.failed)
                used = sum(bill.probed, used)
                cost = self.price.cost_micros(used) if self.price else 0
                self.keyring.settle(
                    self.admission, used, estimated, cost, response_id=self.response_id, model=self.model
                )

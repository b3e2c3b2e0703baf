"""How far a fetch of a model is, told as long as somebody waits for it."""

from __future__ import annotations

from collections.abc import Callable

from antiphon.models.embedded.progress import Abandoned, on_stderr


class CancellableProgress:
    """What ``antiphon serve`` shows of a fetch, which ends when nobody wants the model any more.

    Args:
        unwanted: whether it is so.
    """

    def __init__(self, unwanted: Callable[[], bool]) -> None:
        self._unwanted = unwanted
        self._shown = on_stderr()
        self.begin = self._shown.begin
        self.say = self._shown.say
        self.close = self._shown.close

    def at(self, have_bytes: int) -> None:
        """See ``Reporter.at``.

        Raises:
            Abandoned: nobody wants it.
        """
        if self._unwanted():
            raise Abandoned("The client was closed while its model was fetched; the next fetch resumes from there.")
        self._shown.at(have_bytes)

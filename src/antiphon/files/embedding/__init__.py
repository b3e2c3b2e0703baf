"""Vectors for texts: an interface, and who stands behind it.

Vectors are float32, of length 1, so that a product is the cosine. What a text's vector depends on, the model and the
text, makes its ``digest``; whoever keeps vectors by digest never computes one twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Vectors: TypeAlias = NDArray[float32]
else:
    Vectors: TypeAlias = Any

DIGEST_BYTES = 16


class EmbeddingUnavailable(Exception):
    """The vectors cannot be had now; the text says why. It may be different later."""


class Embedder(Protocol):
    """Makes vectors.

    Attributes:
        id: of the model and how it is run: what is pinned to a store. Vectors of different ids do not compare.
        model: what the API calls it.
        dimensions: length of a vector; 0 while that is not known.
    """

    @property
    def id(self) -> str: ...

    @property
    def model(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row a text.

        Raises:
            EmbeddingUnavailable: they cannot be had now.
        """
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


def digest_of(embedder_id: str, text: str) -> bytes:
    """What a vector depends on, in ``DIGEST_BYTES`` bytes."""
    return hashlib.sha256(f"{embedder_id}\0{text}".encode()).digest()[:DIGEST_BYTES]


def to_unit(rows: Any) -> Vectors:
    """The rows with length 1; a row of zeros stays one."""
    import numpy as np

    rows = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, 1e-12)

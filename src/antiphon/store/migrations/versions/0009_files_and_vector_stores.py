"""Files, uploads, vector stores, and what can be found in them."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the tables."""
    _file()
    _upload()
    _upload_part()
    _vector_store()
    _store_file()
    _file_batch()
    _batch_file()
    _chunk()
    _passage()


def _file() -> None:
    op.create_table(
        "file",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("expires_at", sa.BigInteger, comment="Unix seconds; NULL for ever"),
        sa.PrimaryKeyConstraint("id", name="pk_file"),
    )
    op.create_index("ix_file_expires_at", "file", ["expires_at"])
    op.create_index("ix_file_owner_created_at_id", "file", ["owner", "created_at", "id"])


def _upload() -> None:
    op.create_table(
        "upload",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("mime_type", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("expires_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("file_expires_after_s", sa.BigInteger),
        sa.Column("file_id", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
        sa.CheckConstraint("status IN ('pending', 'completed', 'cancelled', 'expired')", name=op.f("ck_upload_status")),
    )
    op.create_index("ix_upload_status_expires_at", "upload", ["status", "expires_at"])


def _upload_part() -> None:
    op.create_table(
        "upload_part",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("upload_id", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.PrimaryKeyConstraint("id", name="pk_upload_part"),
        sa.ForeignKeyConstraint(["upload_id"], ["upload.id"], name="fk_upload_part_upload_id", ondelete="CASCADE"),
    )
    op.create_index("ix_upload_part_upload_id", "upload_part", ["upload_id"])


def _vector_store() -> None:
    op.create_table(
        "vector_store",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("metadata", sa.Text, nullable=False, comment="JSON object of strings"),
        sa.Column("expires_days", sa.Integer),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("last_active_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("embedder", sa.Text, nullable=False, comment="whose vectors it holds; empty for none"),
        sa.Column("version", sa.BigInteger, nullable=False, comment="rises with every change of what can be found"),
        sa.Column("untidy", sa.Integer, nullable=False, comment="1 while its full text holds what was deleted"),
        sa.PrimaryKeyConstraint("pk", name="pk_vector_store"),
        sa.UniqueConstraint("id", name="uq_vector_store_id"),
    )
    op.create_index("ix_vector_store_owner_created_at_id", "vector_store", ["owner", "created_at", "id"])


def _store_file() -> None:
    op.create_table(
        "store_file",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("store_pk", sa.BigInteger, nullable=False),
        sa.Column("file_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("attributes", sa.Text, nullable=False, comment="JSON object"),
        sa.Column("chunk_tokens", sa.Integer, nullable=False),
        sa.Column("overlap_tokens", sa.Integer, nullable=False),
        sa.Column("is_auto", sa.Integer, nullable=False, comment="1 when no chunking was asked for"),
        sa.Column("usage_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("generation", sa.Integer, nullable=False, comment="of what is being written"),
        sa.Column("live", sa.Integer, comment="the generation that can be found; NULL for none"),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run_after", sa.BigInteger, nullable=False, comment="Unix seconds; leased, or put off, until then"),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("done", sa.Integer, nullable=False),
        sa.Column("total", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("pk", name="pk_store_file"),
        sa.CheckConstraint(
            "status IN ('in_progress', 'completed', 'failed', 'cancelled')", name=op.f("ck_store_file_status")
        ),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name="fk_store_file_file_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["store_pk"], ["vector_store.pk"], name="fk_store_file_store_pk", ondelete="CASCADE"),
        sa.UniqueConstraint("store_pk", "file_id", name="uq_store_file_store_pk_file_id"),
    )
    op.create_index("ix_store_file_file_id", "store_file", ["file_id"])
    op.create_index("ix_store_file_status_run_after", "store_file", ["status", "run_after"])


def _file_batch() -> None:
    op.create_table(
        "file_batch",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("store_pk", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, comment="Unix seconds"),
        sa.Column("is_cancelled", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_file_batch"),
        sa.ForeignKeyConstraint(["store_pk"], ["vector_store.pk"], name="fk_file_batch_store_pk", ondelete="CASCADE"),
    )
    op.create_index("ix_file_batch_store_pk", "file_batch", ["store_pk"])


def _batch_file() -> None:
    op.create_table(
        "batch_file",
        sa.Column("batch_id", sa.Text, nullable=False),
        sa.Column("store_file_pk", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "store_file_pk", name="pk_batch_file"),
        sa.ForeignKeyConstraint(["batch_id"], ["file_batch.id"], name="fk_batch_file_batch_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["store_file_pk"], ["store_file.pk"], name="fk_batch_file_store_file_pk", ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_batch_file_store_file_pk", "batch_file", ["store_file_pk"])


def _chunk() -> None:
    op.create_table(
        "chunk",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("store_file_pk", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("start", sa.BigInteger, nullable=False, comment="in characters of the file's text"),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("page", sa.Integer),
        sa.Column("heading", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("pk", name="pk_chunk"),
        sa.ForeignKeyConstraint(
            ["store_file_pk"], ["store_file.pk"], name="fk_chunk_store_file_pk", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("store_file_pk", "generation", "ordinal", name="uq_chunk_store_file_pk_generation_ordinal"),
    )


def _passage() -> None:
    op.create_table(
        "passage",
        sa.Column("pk", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("store_file_pk", sa.BigInteger, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False, comment="ordinal of the first chunk that it belongs to"),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="of the model and the text"),
        sa.Column("vector", sa.LargeBinary, nullable=False, comment="float16, little-endian"),
        sa.PrimaryKeyConstraint("pk", name="pk_passage"),
        sa.ForeignKeyConstraint(
            ["store_file_pk"], ["store_file.pk"], name="fk_passage_store_file_pk", ondelete="CASCADE"
        ),
        sa.UniqueConstraint(
            "store_file_pk",
            "generation",
            "first",
            "last",
            "digest",
            name="uq_passage_store_file_pk_generation_first_last_digest",
        ),
    )
    op.create_index("ix_passage_digest", "passage", ["digest"])

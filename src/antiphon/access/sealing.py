"""Values that a client keeps for us and must neither read nor change: reasoning, and compacted conversations.

A value is sealed with AES-256-GCM for one project and one purpose. Sealed values outlive this server: any other one
with the same secret, and the same name for the project, opens them. Secrets rotate: the first one seals, all of them
open.

The text is ``antiphon.1.`` and base64url of: 4 bytes that name the secret, 16 bytes of salt, the ciphertext with its
tag. Each value has a key of its own, derived from the secret and the salt by HKDF, so that no nonce is ever used twice
with a key; project and purpose are authenticated with it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from antiphon.wire import Json

SECRET_CHARS_MIN: Final = 32
"""A secret of fewer characters is too easily guessed."""
SEALED_CHARS_MAX: Final = 20_971_520
"""The API's bound on ``encrypted_content``."""

Purpose: TypeAlias = Literal["reasoning", "compaction"]

_PREFIX: Final = "antiphon.1."
_NAME_BYTES: Final = 4
_SALT_BYTES: Final = 16
_NONCE: Final = bytes(12)
"""The same for all: every value has its own key."""


class Unsealable(Exception):
    """A text that was not sealed here for that project, or was changed since. Which of these is not told."""


class WeakSecret(ValueError):
    """A secret that is too short."""


class Sealer:
    """Seals and opens values.

    Args:
        secrets: the first one seals, any of them opens.
        random: that many unpredictable bytes.
    """

    def __init__(self, secrets: Sequence[str], *, random: Callable[[int], bytes] = os.urandom) -> None:
        if not secrets or any(len(secret) < SECRET_CHARS_MIN for secret in secrets):
            raise WeakSecret(f"a sealing key must have at least {SECRET_CHARS_MIN} characters")
        self._secrets = {_name(secret): secret.encode() for secret in secrets}
        self._sealing = _name(secrets[0])
        self._random = random

    def seal(self, value: Json, project: str, purpose: Purpose) -> str:
        """The value as a text that only this project can bring back."""
        salt = self._random(_SALT_BYTES)
        key = _derive_key(self._secrets[self._sealing], salt)
        sealed = key.encrypt(_NONCE, msgspec.json.encode(value), _bound_to(project, purpose))
        return _PREFIX + base64.urlsafe_b64encode(self._sealing + salt + sealed).decode()

    def open(self, text: str, project: str, purpose: Purpose) -> Json:
        """The value that was sealed.

        Raises:
            Unsealable: it was not, or not for this project and purpose, or it was changed.
        """
        data = _decode(text)
        name, salt, sealed = data[:_NAME_BYTES], data[_NAME_BYTES:][:_SALT_BYTES], data[_NAME_BYTES + _SALT_BYTES :]
        secret = self._secrets.get(name)
        if secret is None or len(salt) < _SALT_BYTES:
            raise Unsealable
        try:
            return msgspec.json.decode(_derive_key(secret, salt).decrypt(_NONCE, sealed, _bound_to(project, purpose)))
        except InvalidTag:
            raise Unsealable from None


def _name(secret: str) -> bytes:
    """The name by which a sealed value says which secret sealed it; it reveals nothing of the secret."""
    return hashlib.sha256(b"antiphon sealing key name\0" + secret.encode()).digest()[:_NAME_BYTES]


def _derive_key(secret: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"antiphon sealing").derive(secret))


def _bound_to(project: str, purpose: Purpose) -> bytes:
    return f"{purpose}\0{project}".encode()


def _decode(text: str) -> bytes:
    if not text.startswith(_PREFIX) or len(text) > SEALED_CHARS_MAX:
        raise Unsealable
    try:
        return base64.b64decode(text[len(_PREFIX) :], altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise Unsealable from None


def new_secret() -> str:
    """A secret for ``sealing_keys``."""
    return secrets.token_urlsafe(SECRET_CHARS_MIN)


def load_secret(file: Path) -> str:
    """The secret in a file that only the file's owner can read; created where there is none.

    Two servers that begin at once agree on one: the file is written aside, and linked into place.

    Raises:
        OSError: it can neither be read nor written.
    """
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as opened:
            opened.write(new_secret() + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(aside, file)
        return file.read_text().strip()
    finally:
        aside.unlink(missing_ok=True)

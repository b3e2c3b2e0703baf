"""Sealed values: opened by their project, by whoever has the secret, and by nobody else."""

import base64
import threading
from pathlib import Path

import pytest

from antiphon.access.sealing import Sealer, Unsealable, WeakSecret, load_secret, new_secret

OLD, NEW = "o" * 32, "n" * 32
VALUE = {"summary": "Ada's garden", "count": 3}


def test_a_value_comes_back() -> None:
    sealed = Sealer([NEW]).seal(VALUE, "ada", "compaction")
    assert Sealer([NEW]).open(sealed, "ada", "compaction") == VALUE
    assert "Ada" not in base64.urlsafe_b64decode(sealed.removeprefix("antiphon.1.")).decode("latin-1")


def test_no_two_sealed_values_are_alike() -> None:
    sealer = Sealer([NEW])
    assert len({sealer.seal(VALUE, "ada", "reasoning") for _ in range(50)}) == 50


def test_secrets_rotate() -> None:
    sealed = Sealer([OLD]).seal(VALUE, "ada", "reasoning")
    rotated = Sealer([NEW, OLD])
    assert rotated.open(sealed, "ada", "reasoning") == VALUE
    assert Sealer([NEW]).open(rotated.seal(VALUE, "ada", "reasoning"), "ada", "reasoning") == VALUE
    with pytest.raises(Unsealable):
        Sealer([NEW]).open(sealed, "ada", "reasoning")


@pytest.mark.parametrize(("project", "purpose"), [("bob", "reasoning"), ("", "reasoning"), ("ada", "compaction")])
def test_it_is_bound_to_its_project_and_purpose(project: str, purpose: str) -> None:
    sealer = Sealer([NEW])
    with pytest.raises(Unsealable):
        sealer.open(sealer.seal(VALUE, "ada", "reasoning"), project, purpose)  # pyright: ignore[reportArgumentType]


def test_every_change_is_noticed() -> None:
    sealer = Sealer([NEW])
    sealed = sealer.seal(VALUE, "ada", "reasoning")
    data = bytearray(base64.urlsafe_b64decode(sealed.removeprefix("antiphon.1.")))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(Unsealable):
            sealer.open("antiphon.1." + base64.urlsafe_b64encode(changed).decode(), "ada", "reasoning")


@pytest.mark.parametrize("text", ["", "gAAAAAB", "antiphon.1.", "antiphon.1.****", "antiphon.1.AAAA", "antiphon.2.é"])
def test_what_was_never_sealed_here(text: str) -> None:
    with pytest.raises(Unsealable):
        Sealer([NEW]).open(text, "ada", "reasoning")


def test_a_short_secret_is_refused() -> None:
    for secrets in ([], ["short"], [NEW, "short"]):
        with pytest.raises(WeakSecret):
            Sealer(secrets)


def test_a_secret_is_kept_where_only_its_project_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "sealing.key"
    secret = load_secret(file)
    assert len(secret) >= len(new_secret()) and load_secret(file) == secret
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["sealing.key"]


def test_servers_that_begin_at_once_agree_on_a_secret(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(load_secret(tmp_path / "key"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1

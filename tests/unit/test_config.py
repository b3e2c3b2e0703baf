"""Flags over environment over file; every mistake is named with its source."""

from pathlib import Path

import pytest

from antiphon.config import Config, ConfigError, load


def test_precedence(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text('port = 1\nstrict = true\nmodel = "file"\n[aliases]\ngpt = "qwen"\n')
    config = load({"port": 3, "model": None}, {"ANTIPHON_PORT": "2", "ANTIPHON_MODEL": "env"}, file)
    assert (config.port, config.model, config.strict, config.aliases) == (3, "env", True, {"gpt": "qwen"})


def test_the_environment_speaks_text() -> None:
    environ = {
        "ANTIPHON_STRICT": "yes",
        "ANTIPHON_ALIASES": "a=b,c=d=e",
        "ANTIPHON_DATA": "~/x",
        "ANTIPHON_DRAIN_S": "2.5",
        "ANTIPHON_PROFILE": "openresponses",
    }
    config = load({}, environ)
    assert (config.strict, config.aliases, config.drain_s) == (True, {"a": "b", "c": "d=e"}, 2.5)
    assert (config.data, config.profile) == (Path.home() / "x", "openresponses")


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"ANTIPHON_PORT": "many"}, "ANTIPHON_PORT: port cannot be 'many'"),
        ({"ANTIPHON_STRICT": "maybe"}, "true or false"),
        ({"ANTIPHON_STORE": "tape"}, "one of sqlite, memory"),
        ({"ANTIPHON_PROFILE": "closed"}, "one of openai, openresponses"),
        ({"ANTIPHON_UNSUPPORTED_IMAGES": "guess"}, "one of refuse, note"),
        ({"ANTIPHON_UPSTREAM": "localhost:8000"}, "not an http"),
        ({"ANTIPHON_HEARTBEAT_S": "-1"}, "heartbeat_s cannot be negative"),
        ({"ANTIPHON_KEEP_ALIVE_S": "-1"}, "keep_alive_s cannot be negative"),
        ({"ANTIPHON_CORS_ORIGINS": "chat.example.org"}, "'chat.example.org' is no origin"),
        ({"ANTIPHON_CORS_ORIGINS": '["https://a.example", "https://b.example/chat"]'}, "is no origin"),
        ({"ANTIPHON_CORS_ORIGINS": '["https://a.example"'}, "cors_origins cannot be"),
    ],
)
def test_mistakes(environ: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load({}, environ)


@pytest.mark.parametrize("text", ["https://a.example/, app://b", '["https://a.example/", "app://b"]'])
def test_lists_are_written_with_commas_or_as_json(text: str) -> None:
    config = load({}, {"ANTIPHON_CORS_ORIGINS": text, "ANTIPHON_ALIASES": '{"a": "b"}'})
    assert (tuple(config.cors_origins), config.aliases) == (("https://a.example", "app://b"), {"a": "b"})


def test_origins_in_the_file_may_end_in_a_slash_too(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text('cors_origins = ["https://a.example/"]')
    assert tuple(load({}, {}, file).cors_origins) == ("https://a.example",)


def test_mistakes_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    with pytest.raises(ConfigError, match="No such file"):
        load({}, {}, file)
    file.write_text("prot = 1")
    with pytest.raises(ConfigError, match="unknown setting 'prot'"):
        load({}, {}, file)
    file.write_text("= 1")
    with pytest.raises(ConfigError, match="Invalid"):
        load({}, {}, file)


def test_the_key_is_not_shown() -> None:
    assert "hush" not in repr(Config(upstream_key="hush"))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://bob:s3cret@host/v1",
        "bob:s3cret@host/v1",
        "http://bob:s3cret@[::1/v1",
        "http://bob:s3cret@host:99999/v1",
        "http://bob:s3cret@/v1?key=s3cret",
    ],
)
def test_a_url_that_cannot_be_asked_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config(upstream=url)
    assert "bob" not in str(refused.value) and "s3cret" not in str(refused.value)


def test_a_user_in_the_url_and_a_key_are_not_both_sent() -> None:
    Config(upstream="http://bob:s3cret@host/v1")
    with pytest.raises(ConfigError, match="use one of them") as refused:
        Config(upstream="http://bob:s3cret@host/v1", upstream_key="s3cret")
    assert "s3cret" not in str(refused.value)

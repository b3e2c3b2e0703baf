"""What the commands share: their settings, their exit statuses, and how an error is shown to people."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from antiphon.config import Config, load

EXIT_FAILED = 1
EXIT_MISUSED = 2

Options = Mapping[str, Any]
"""The command line's options, by name."""
Command = Callable[[Options], int]
"""Runs a command; returns the exit status."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which server's settings and data folder are meant."""
    parser.add_argument("--config", type=Path, help="TOML file of settings")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of the database")


def load_config(options: Options) -> Config:
    """The settings, where the options name some of them.

    Raises:
        ConfigError: an unknown or unusable setting.
    """
    flags = {name: value for name, value in options.items() if name in Config.__dataclass_fields__}
    return load(flags, os.environ, options["config"])


def fail(error: object) -> int:
    """Say on standard error why a command failed; returns the exit status."""
    print(f"antiphon: {strip_control(str(error))}", file=sys.stderr)
    return EXIT_FAILED


def strip_control(text: str) -> str:
    """A text without terminal control characters: nothing that a model, a program, a file or a server says can redraw
    what stands on the screen.
    """
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "�", text.replace("\r\n", "\n"))


def report_errors(command: Command) -> Command:
    """The command, failing with a message where the store or the operating system refuses something."""

    def run(options: Options) -> int:
        from antiphon.store import StoreUnavailable

        try:
            return command(options)
        except (StoreUnavailable, OSError) as error:
            return fail(error)

    return run

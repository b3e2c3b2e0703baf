"""Runners: what does on the user's machine what a model asks for. They go into ``client.run(task, tools=[…])``."""

from antiphon.client.runners.apply_patch import ApplyPatch
from antiphon.client.runners.browser import BrowserMissing
from antiphon.client.runners.computer import Computer, ComputerStopped, SafetyCheckPending
from antiphon.client.runners.files import PatchRefused
from antiphon.client.runners.sandbox import SandboxMissing
from antiphon.client.runners.shell import CommandRefused, LocalShell, Shell

__all__ = [
    "ApplyPatch",
    "BrowserMissing",
    "CommandRefused",
    "Computer",
    "ComputerStopped",
    "LocalShell",
    "PatchRefused",
    "SafetyCheckPending",
    "SandboxMissing",
    "Shell",
]

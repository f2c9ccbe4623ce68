"""Ask for a peer: skip the test for a person who does not have it, fail it in CI."""

from __future__ import annotations

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest


def program(name: str) -> str:
    """Return the path of an installed program."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    return path


def package(name: str) -> ModuleType:
    """Return an importable package; call it at the top of a test module that needs one."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing(f"{name} cannot be imported ({error})")


def missing(reason: str) -> NoReturn:
    """Skip, or fail where the environment variable CI is set."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI installs every peer")
    pytest.skip(reason, allow_module_level=True)

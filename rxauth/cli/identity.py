"""The headers by which a provider tells programs and devices apart. Ours say who we are."""

from __future__ import annotations

import platform
import uuid
from collections.abc import Mapping
from pathlib import Path

from rxauth import __version__
from rxauth.cli.home import home
from rxauth.providers import Provider

__all__ = ["identity"]


def identity(environ: Mapping[str, str], preset: Provider) -> dict[str, str]:
    """Return the headers of every request to a provider.

    Raises:
        StoreError: the user has no home directory.
    """
    if preset.device_header_prefix is None:
        return dict(preset.headers)
    prefix = preset.device_header_prefix
    return {
        **preset.headers,
        f"{prefix}Platform": "rxauth",
        f"{prefix}Version": __version__,
        f"{prefix}Device-Name": _ascii(platform.node()),
        f"{prefix}Device-Model": _ascii(f"{platform.system()} {platform.release()} {platform.machine()}"),
        f"{prefix}Os-Version": _ascii(platform.version()),
        f"{prefix}Device-Id": _device_id(home(environ)),
    }


def _device_id(directory: Path) -> str:
    """Return the same id each time, where it can be kept; a home that cannot be written gets a new id each time."""
    path = directory / "device_id"
    try:
        known = path.read_text().strip()
        if known.isascii() and known.isalnum() and len(known) <= 64:
            return known
    except (OSError, UnicodeDecodeError):
        pass
    made = uuid.uuid4().hex
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(made + "\n")
    except OSError:
        pass
    return made


def _ascii(text: str) -> str:
    return "".join(each for each in text if each.isascii() and each.isprintable()).strip() or "unknown"

"""Survive an expired token in a stream: composable ReactiveX operators for assistant events.

    stream.pipe(recover_auth(credentials.refresh))

or, one step each,

    stream.pipe(buffer_until_live(), retry_on_first_auth_error(credentials.refresh), flush_on_complete_or_error())

The public names stand in `__init__.pyi`. Each is imported at its first use: the operators need neither
aiohttp nor, before the first recovery, tenacity.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import Any

from rxauth._version import __version__ as __version__

# Python prints a library's warnings to stderr if no handler is installed.
logging.getLogger(__name__).addHandler(logging.NullHandler())


@cache
def _modules_by_name() -> dict[str, str]:
    """Read which module holds each public name.

    The package lazy-loader does this too, but `rxauth.operators` has to import where only reactivex and tenacity are
    installed, such as in a page with Pyodide.
    """
    import ast
    from importlib import resources

    stub = ast.parse(resources.files(__name__).joinpath("__init__.pyi").read_text("utf-8"))
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module or "" for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return ["__version__", *_modules_by_name()]
    if name.startswith("_"):
        raise AttributeError(f"module 'rxauth' has no attribute {name!r}")
    module = _modules_by_name().get(name)
    if module is not None:
        value = globals()[name] = getattr(import_module(module), name)
        return value
    try:
        return import_module(f"rxauth.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"rxauth.{name}":  # a dependency of that module is missing
            raise
        raise AttributeError(f"module 'rxauth' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})

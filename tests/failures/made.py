"""Failures, as tests make them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


def failure(message: str = "", **attributes: Any) -> Exception:
    error = Exception(message)
    vars(error).update(attributes)
    return error


def in_band(**fields: Any) -> dict[str, Any]:
    return {"type": "error", **fields}


def of_sdk(status: int, body: Any, **headers: str) -> Exception:
    """As an official SDK raises it: its text repeats the body."""
    response = SimpleNamespace(status_code=status, headers=headers)
    return failure(f"Error code: {status} - {body}", status_code=status, body=body, response=response)


def of_header(name: str, value: str, **attributes: Any) -> Exception:
    """A failure whose response says in a header what it is."""
    return failure(response=SimpleNamespace(headers={name: value}), **attributes)


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


def group(*failures: Exception) -> Exception:
    return ExceptionGroup("unhandled errors in a TaskGroup", failures)

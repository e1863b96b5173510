"""Lumos: galaxy fluxes with errors that are true, from survey exposures and a parent catalogue.

The functions of :mod:`lumos.api` are attributes of the package, loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumos.api import catalog, coadd, measure, psf, read_coadd, read_run

__all__ = ["__version__", "catalog", "coadd", "measure", "psf", "read_coadd", "read_run"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module("lumos.api"), name)
    raise AttributeError(f"module 'lumos' has no attribute {name!r}, allowed: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Packages that some formats need and that need not be installed."""

from importlib import import_module
from types import ModuleType

from lumos.errors import LumosError

__all__ = ["optional"]


def optional(name: str, extra: str, what: str) -> ModuleType:
    """Import a package that need not be installed.

    Parameters
    ----------
    name : str
        Of the module.
    extra : str
        Of the set of packages that brings it.
    what : str
        What needs it, for the message.

    Returns
    -------
    module
        The package.

    Raises
    ------
    LumosError
        If it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        text = f"{what} needs the package {error.name!r}"
        raise LumosError(f"{text}: pip install 'lumos-photometry[{extra}]'") from error

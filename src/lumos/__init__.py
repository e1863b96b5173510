"""Lumos: galaxy fluxes with errors that are true, from survey exposures and a parent catalogue."""

__all__ = ["__version__"]

__version__ = "0.1.0"

"""The model of a run, and what its tables say of it."""

from functools import cache

from lumos.nets.checkpoint import find_model, load_model
from lumos.nets.model import FluxModel

__all__ = ["model_facts", "model_of"]


def model_of(name: str | None) -> FluxModel | None:
    """Return a model, read once per process as long as it does not change.

    Parameters
    ----------
    name : str or None
        Name of a shipped model, or a folder.

    Returns
    -------
    FluxModel or None
        None for None.
    """
    return None if name is None else _load(name, (find_model(name) / "config.json").stat().st_mtime_ns)


@cache
def _load(name: str, mtime_ns: int) -> FluxModel:  # noqa: ARG001 (the time is part of the cache's key)
    return load_model(name)


def model_facts(name: str | None) -> dict[str, object] | None:
    """Return what an output file must say of the model behind it.

    Parameters
    ----------
    name : str or None
        As of :func:`model_of`.

    Returns
    -------
    dict or None
        Name, kind of its PDFs, digest of its weights, magnitude from which components are cut at 0.
    """
    model = model_of(name)
    return None if model is None else model.config.model_dump(include={"name", "kind", "sha256", "cut_from"})

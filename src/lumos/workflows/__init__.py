"""What the commands do beyond one call of the library; each is imported when it is asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lumos.workflows.adapt import adapt_model
    from lumos.workflows.catalog import make_catalog, make_psfs
    from lumos.workflows.demo import run_demo, run_panels
    from lumos.workflows.train import train_model

__all__ = ["adapt_model", "make_catalog", "make_psfs", "run_demo", "run_panels", "train_model"]

_MODULES = {
    "adapt_model": "adapt",
    "make_catalog": "catalog",
    "make_psfs": "catalog",
    "run_demo": "demo",
    "run_panels": "demo",
    "train_model": "train",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a function when it is first asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

"""What the commands do beyond one call of the library."""

from lumos.workflows.adapt import adapt_model
from lumos.workflows.catalog import make_catalog, make_psfs
from lumos.workflows.demo import run_demo, run_panels
from lumos.workflows.train import train_model

__all__ = ["adapt_model", "make_catalog", "make_psfs", "run_demo", "run_panels", "train_model"]

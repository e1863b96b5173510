"""The Python API: each function takes paths or objects at hand and returns a table.

``import lumos`` makes them known as ``lumos.measure`` and so on; they are loaded when they are first used.
"""

from lumos.api.fluxes import coadd, measure, read_coadd, read_run
from lumos.api.sources import catalog, psf
from lumos.api.tables import FluxTable

__all__ = ["FluxTable", "catalog", "coadd", "measure", "psf", "read_coadd", "read_run"]

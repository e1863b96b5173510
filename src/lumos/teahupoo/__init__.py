"""Teahupoo: simulated galaxies on stamps of real or simulated backgrounds, with known fluxes."""

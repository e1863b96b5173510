"""Profiles of galaxies, drawn as the detector sees them."""

from lumos.profiles.sersic import render_sersic

__all__ = ["render_sersic"]

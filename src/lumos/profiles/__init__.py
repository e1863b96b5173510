"""Profiles of galaxies, drawn as the detector sees them."""

from lumos.profiles.sersic import render
from lumos.profiles.shapes import Shapes

__all__ = ["Shapes", "render"]

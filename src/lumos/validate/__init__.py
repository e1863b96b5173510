"""Figures that tell how good a run is."""

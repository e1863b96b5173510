"""Galaxies of known flux put into real exposures and measured there: what the fluxes of a survey are worth."""

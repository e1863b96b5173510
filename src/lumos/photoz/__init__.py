"""Photometric redshifts: model fluxes, mock catalogues, fits."""

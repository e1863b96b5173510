"""Passbands and spectral energy distributions."""

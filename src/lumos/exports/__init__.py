"""Runs and coadds as other programs read them."""

"""Zero points of a run, and coadds of its exposures."""

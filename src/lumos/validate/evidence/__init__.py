"""What speaks for and against fluxes: known truths, metrics with requirements, charts, galleries."""

"""The fit of templates: non-negative sums of a run's components, at all redshifts, with any likelihood of the fluxes."""

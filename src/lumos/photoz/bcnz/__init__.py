"""The fit of templates: non-negative sums of the components of runs, with any likelihood of the fluxes."""

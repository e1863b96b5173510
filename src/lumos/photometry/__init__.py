"""From exposures and a parent catalogue to a table of fluxes."""

"""Parent catalogues in, flux tables out."""

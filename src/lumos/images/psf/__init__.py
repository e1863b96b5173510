"""PSF models of exposures and the files that hold them."""

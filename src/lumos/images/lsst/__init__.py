"""What files of the LSST pipelines hold beside pixels: tables of ExposureF files, PSFs of cells."""

"""FITS files: opened with guards, scanned to the last byte, their checksums computed."""

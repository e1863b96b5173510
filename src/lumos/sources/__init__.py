"""Find objects and stars in an image, and fit their profiles."""

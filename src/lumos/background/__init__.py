"""The background around an object, and how the noise of its pixels is correlated."""

"""Studies of the paper's claims, each of which makes its own images."""

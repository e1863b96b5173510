"""Training of networks on simulated stamps."""

"""Deepz: photometric redshifts by networks, after Eriksen et al. 2020."""

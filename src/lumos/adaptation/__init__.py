"""Adapt a model to the exposures of a run: pairs, injected galaxies, transfer, and the judgement of what came out."""

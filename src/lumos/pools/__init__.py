"""Pools of background stamps: cut from exposures, written, read."""

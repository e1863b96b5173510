"""Scenes: all objects of an image fitted together."""

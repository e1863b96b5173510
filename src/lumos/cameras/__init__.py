"""Cameras that nobody prepared for: what their files say of themselves, as a survey file with open questions."""

"""Transforms: what is done to payloads before they are framed, and undone after they were deframed."""

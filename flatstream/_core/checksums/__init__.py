"""Checksums of a payload, and their kernels."""

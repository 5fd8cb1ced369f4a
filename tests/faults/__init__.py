"""Faults that are injected into journals: `make test-faults`."""

"""The Arrow C data interface, in both directions."""

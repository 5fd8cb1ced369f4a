"""Many frames; no input or output of its own."""

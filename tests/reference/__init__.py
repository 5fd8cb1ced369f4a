"""Slow and readable implementations that judge the compiled ones: of the framing, of columns and of records."""

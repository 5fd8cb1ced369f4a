"""The compiled core: it knows bytes, never files, and imports nothing above it but the errors."""

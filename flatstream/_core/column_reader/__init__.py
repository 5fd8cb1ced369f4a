"""Messages to columns."""

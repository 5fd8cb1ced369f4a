"""Memory and bytes; knows no format."""

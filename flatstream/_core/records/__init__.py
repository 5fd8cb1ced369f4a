"""Objects of Python to messages, and back."""

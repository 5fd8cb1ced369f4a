"""What is done to payloads before they are framed, and undone when they are read: compression and encryption."""

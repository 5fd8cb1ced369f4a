"""Columns to messages."""

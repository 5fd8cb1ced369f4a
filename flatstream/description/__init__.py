"""Descriptions: the frame by which a stream introduces itself, with its checksum, its schemas and its metadata."""

from flatstream.description.description import MAX_SIZE, Description, Root, Transform, is_description

__all__ = ["MAX_SIZE", "Description", "Root", "Transform", "is_description"]

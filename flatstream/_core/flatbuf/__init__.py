"""FlatBuffers themselves, compiled: building, verifying, schemas."""

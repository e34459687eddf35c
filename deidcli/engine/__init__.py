"""The chain: files in, frames, faces, new faces, files out. Only this room knows all the others below it."""

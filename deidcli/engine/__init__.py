"""The chain: files in, frames, faces, new faces, files out. The only package that uses all those below it."""

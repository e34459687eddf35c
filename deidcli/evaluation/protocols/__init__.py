"""Protocols: which pictures are compared with which, and what is told of it."""

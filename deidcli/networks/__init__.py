"""Keras networks, and Keras only here. Every network is written with `keras.ops` and runs on any backend."""

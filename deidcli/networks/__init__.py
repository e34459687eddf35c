"""Networks. Those of Keras are written with `keras.ops` and run on any backend; importing this package loads none.

dlib's recogniser runs in ONNX Runtime, so that a run that only compares faces never starts TensorFlow.
"""

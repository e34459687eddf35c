"""Training: packed faces in, a preset folder out. Needs Keras, NumPy and Pillow, and neither dlib nor TensorFlow."""

"""The tests run in as many processes as there are cores, so each of them computes in one thread, as a run does itself.

This is set before anything imports NumPy or TensorFlow, and commands that tests start inherit it.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")

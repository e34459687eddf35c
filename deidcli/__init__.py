"""deid: replace every face in photographs and videos by one that cannot be recognised.

The command line is the product (`deid --help`), and this is the library behind it:

    anonymize(inputs, output, method, **options) -> Report            files and folders
    anonymize_image(pixels, method, **options) -> (pixels, faces)     one picture
    Anonymizer(method, **options)                                     many pictures, or the frames of a video
    detect(pixels, **options) -> faces
    methods() -> what there is

Importing the package loads no weights and no heavy library: each name is loaded when it is first used.
"""

import os

__version__ = "0.1.0"
__all__ = ["Anonymizer", "DeidError", "MethodInfo", "Report", "anonymize", "anonymize_image", "detect", "methods"]

# ONNX Runtime writes an identity of the machine into the user's cache, and sends events over the network, unless it
# finds this when it is imported. Processes that are started from here take it over. Ray counts its users likewise.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def __getattr__(name):
    """The library's names, from `deidcli.api`, when they are first used."""
    if name not in __all__:
        raise AttributeError(f"module 'deidcli' has no attribute {name!r}")
    from importlib import import_module

    # TensorFlow and Keras read these once, when they are imported; a user's own settings win.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    return getattr(import_module("deidcli.errors" if name == "DeidError" else "deidcli.api"), name)


def __dir__():
    return sorted([*__all__, "__version__"])

"""--device: which processor the networks use. Has to be said before the first of them is loaded."""

from __future__ import annotations

import os
import re

from deidcli.errors import UsageError
from deidcli.networks.device import choose


def use_device(name: str) -> None:
    """Run networks on the device `name`: "cpu" without TensorFlow, "gpu" or "gpu:N" by Keras, "auto" on what is there.

    Raises UsageError for another name, and for a GPU that is not there: nothing falls back to the CPU in silence.
    """
    match = re.fullmatch(r"auto|cpu|gpu(?::(\d+))?", name)
    if match is None:
        raise UsageError(f"--device {name}: not known", "give auto, cpu, gpu or gpu:N")
    choose(name.partition(":")[0])
    if name == "auto":
        return
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        return
    if match.group(1) is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = match.group(1)
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        raise UsageError(f"--device {name}: TensorFlow sees no such GPU", "run `deid doctor`, or take --device cpu")

"""Settings are in setup.cfg; this file maps models/ into the package, so that an installed deid carries its presets."""

from pathlib import Path

from setuptools import find_packages, setup

PRESETS = [path.parent.name for path in Path("models").glob("*/config.json")]

setup(
    packages=[*find_packages(include=["deidcli", "deidcli.*"]), "deidcli.models"],
    package_dir={"deidcli.models": "models"},
    package_data={
        "deidcli.faces": ["mean_mesh.npy", "mean_triangles.npy"],
        "deidcli.evaluation": ["measured.json"],
        "deidcli.evaluation.report": ["templates/*"],
        "deidcli.models": [f"{name}/*" for name in PRESETS],
    },
)

"""The house: imports only point down, `--help` is light, files are short, and what is public is explained."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1] / "deidcli"
MODULES = sorted(HOUSE.rglob("*.py"))
FLOORS = [
    {"errors"},
    {"values", "presets"},
    {"networks"},
    {"media", "faces"},
    {"methods"},
    {"engine"},
    {"training"},
    {"evaluation"},
    {"api"},
    {"cli"},
    {"__main__"},
]
HEAVY = ("keras", "tensorflow", "dlib")
KERAS_ROOMS = {"networks", "training", "cli"}  # cli only asks it for devices and seeds


def floor_of(room):
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def room_of(path):
    part = path.relative_to(HOUSE).parts[0]
    return part.removesuffix(".py")


def imported(path):
    """Every module that a file imports, at its top or within a function, by its full name."""
    package = ("deidcli", *path.relative_to(HOUSE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "deidcli" else [base]


def shown(path):
    return path.relative_to(HOUSE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_imports_only_point_down(path):
    room = room_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "deidcli" or parts[1] in (room, "__version__"):
            continue
        assert room != "__init__", f"importing deidcli would import {name}"
        assert floor_of(parts[1]) < floor_of(room), f"{shown(path)} imports {name}, which does not lie below it"


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_keras_only_in_networks(path):
    heavy = {name.split(".")[0] for name in imported(path)} & {"keras", "tensorflow"}
    assert not heavy or room_of(path) in KERAS_ROOMS


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_files_are_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_what_is_public_is_explained(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(tree), "the module says nothing"
    assert not silent


def test_help_is_light():
    """No command's help loads a network library, and every option of every command is explained."""
    script = f"""
import sys, click
from deidcli.cli import main, _COMMANDS

def visit(command, path):
    for option in command.params:
        if isinstance(option, click.Option) and not option.help:
            sys.exit(f"{{path}}: {{option.opts}} is not explained")
    try:
        main.main([*path, "--help"], standalone_mode=False)
    except click.exceptions.Exit:
        pass
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    if loaded:
        sys.exit(f"{{path}} --help imports {{loaded}}")
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            visit(command.get_command(context, name), [*path, name])

for name in _COMMANDS:
    visit(main.get_command(None, name), [name])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=HOUSE.parent)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout and "anonymize" in done.stdout


def test_importing_the_package_imports_nothing():
    script = "import sys; before = set(sys.modules); import deidcli; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=HOUSE.parent, check=True)
    assert done.stdout.strip() == "['deidcli']"

"""The structure: imports only go to lower layers, `--help` is light, files are short, public names have docstrings."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deidcli"
MODULES = sorted(PACKAGE.rglob("*.py"))
LAYERS = [
    {"bounded", "errors"},
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
KERAS_PACKAGES = {"networks", "training", "cli"}  # cli only asks it for devices and seeds


def layer_of(part):
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def part_of(path):
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def imported(path):
    """Every module that a file imports, at its top or within a function, by its full name."""
    package = ("deidcli", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "deidcli" else [base]


def shown(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_imports_only_point_down(path):
    part = part_of(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "deidcli" or parts[1] in (part, "__version__"):
            continue
        assert part != "__init__", f"importing deidcli would import {name}"
        assert layer_of(parts[1]) < layer_of(part), f"{shown(path)} imports {name}, which does not lie below it"


def test_no_module_imports_itself_by_way_of_others():
    dotted = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in MODULES}
    names = {name.removesuffix(".__init__"): path for path, name in dotted.items()}
    ahead = {name: _modules(path, names) - {name} for name, path in names.items()}
    while ends := {
        name
        for name, others in ahead.items()
        if not others & ahead.keys() or not any(name in each for each in ahead.values())
    }:
        ahead = {name: others for name, others in ahead.items() if name not in ends}
    assert not ahead, f"these import each other in a circle: {sorted(ahead)}"


def _modules(path, names):
    """Which modules of the package a file imports, at its top or within a function."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {name if (name := f"{base}.{alias.name}") in names else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & names.keys()


@pytest.mark.parametrize("path", MODULES, ids=shown)
def test_keras_only_in_networks(path):
    heavy = {name.split(".")[0] for name in imported(path)} & {"keras", "tensorflow"}
    assert not heavy or part_of(path) in KERAS_PACKAGES


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
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout and "anonymize" in done.stdout


@pytest.mark.parametrize("group", ["evaluate", "train"])
def test_every_command_of_a_group_is_offered(group):
    files = import_module(f"deidcli.cli.{group}").FILES
    for path in (PACKAGE / "cli" / group).glob("[!_]*.py"):
        defined = re.findall(r'^@click\.command\("([a-z-]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        assert sorted(defined) == sorted(name for name, file in files.items() if file == path.stem)


def test_importing_the_package_imports_nothing():
    script = "import sys; before = set(sys.modules); import deidcli; print(sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout.strip() == "['deidcli']"

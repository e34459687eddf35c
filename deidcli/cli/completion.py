"""The `completion` command: what a shell needs to complete commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from deidcli.cli import options as opt


@click.command(cls=opt.Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    eval "$(deid completion bash)"                                     # bash, in ~/.bashrc
    eval "$(deid completion zsh)"                                      # zsh, in ~/.zshrc
    deid completion fish > ~/.config/fish/completions/deid.fish
    """
    from deidcli.cli import main

    kind = get_completion_class(shell)
    assert kind is not None  # click has these three
    click.echo(kind(main, {}, "deid", "_DEID_COMPLETE").source())

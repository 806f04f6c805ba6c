"""`labkeeper completion`: prints the script that teaches a shell to complete our commands, and says where it goes."""

from __future__ import annotations

import sys
from typing import Final

import click
from click.shell_completion import get_completion_class

PROGRAM: Final = "labkeeper"
_VARIABLE: Final = "_LABKEEPER_COMPLETE"

INSTALL: Final = {
    "bash": "labkeeper completion bash > ~/.local/share/bash-completion/completions/labkeeper",
    "zsh": "labkeeper completion zsh > ~/.zfunc/_labkeeper   # with fpath+=~/.zfunc before compinit in ~/.zshrc",
    "fish": "labkeeper completion fish > ~/.config/fish/completions/labkeeper.fish",
}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(INSTALL)))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print a script that lets SHELL complete commands, options and the names of machines.

    Names of machines are asked from the façade, if it answers at once. To install, once:

    \b
      mkdir -p ~/.local/share/bash-completion/completions
      labkeeper completion bash > ~/.local/share/bash-completion/completions/labkeeper
    \b
      mkdir -p ~/.zfunc     # and fpath+=~/.zfunc before compinit in ~/.zshrc
      labkeeper completion zsh > ~/.zfunc/_labkeeper
    \b
      labkeeper completion fish > ~/.config/fish/completions/labkeeper.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not known to the installed version of click.")
    script = kind(context.find_root().command, {}, PROGRAM, _VARIABLE).source()
    if sys.stdout.isatty():
        click.echo(f"# To install, then open a new shell: {INSTALL[shell]}", err=True)
    click.echo(script)

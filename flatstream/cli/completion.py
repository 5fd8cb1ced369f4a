"""``flatstream completion``: the script by which a shell completes commands, options and paths."""

from __future__ import annotations

import click

from flatstream.cli._app import PROGRAM, VARIABLE, app
from flatstream.cli._output import write_text

__all__ = ["command"]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script by which a shell completes commands, options and paths.

    \b
    bash  eval "$(flatstream completion bash)"      in ~/.bashrc
    zsh   eval "$(flatstream completion zsh)"       in ~/.zshrc
    fish  flatstream completion fish | source       in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    write_text(f"{made(app, {}, PROGRAM, VARIABLE).source()}\n")

"""Asking before doing what cannot be undone."""

from __future__ import annotations

import click

from pipeline.command import CommandFailed


def confirm(question: str, otherwise: str) -> None:
    """Go on only after a yes. Raises `CommandFailed` after a no, and where nobody can answer."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as error:
        click.echo(err=True)  # the question's line is still open
        raise CommandFailed(f"{otherwise}: there was no answer (--yes answers for you)") from error
    if not agreed:
        raise CommandFailed(otherwise)

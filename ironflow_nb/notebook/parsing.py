"""Reading what stands behind a magic."""

from __future__ import annotations

import argparse
from typing import NoReturn

from IPython.core.error import UsageError


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the kernel."""

    def error(self, message: str) -> NoReturn:
        """Refuse what was given."""
        raise UsageError(f"%{self.prog}: {message}; {self.format_usage().strip()}")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """Say how it is used."""
        raise UsageError(message or self.format_usage().strip())

    def print_help(self, file: object = None) -> None:
        """Print nothing: `exit` says how the verb is used."""

"""Help in a narrow window: typer's boxes cut options' names there, so it is plain text, a line for a long name."""

from __future__ import annotations

import shutil
from typing import Any

from typer.core import TyperCommand

#: Columns from which the boxes have room for the longest names.
_LEAST_COLUMNS = 100


class WholeNamesCommand(TyperCommand):
    """A command whose help shows every option's name whole, however narrow the window is."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, in boxes where they have room."""
        mode = self.rich_markup_mode
        if shutil.get_terminal_size().columns < _LEAST_COLUMNS:
            self.rich_markup_mode = None
        try:
            super().format_help(ctx, formatter)
        finally:
            self.rich_markup_mode = mode

"""The command ``python -m mfac``. Words, flags and exit codes are those of the tool ``mfac``."""

from ._main import main

__all__ = ["main"]

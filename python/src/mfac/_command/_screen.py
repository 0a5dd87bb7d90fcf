"""The terminal: one screen that is drawn again and again, and the keys that end it."""

import os
import select
import shutil
import signal
import sys
import termios
import time
import tty
from types import TracebackType
from typing import Any, List, Optional, Sequence, Type


def is_terminal() -> bool:
    """Whether there is a screen to draw on."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Screen:
    """The terminal's other screen, where it is one; what was there before comes back at the end. Keys are read where stdin is a
    terminal too. SIGTERM ends the program as SystemExit does, so that the terminal is left as it was."""

    def __init__(self, drawn: bool) -> None:
        self.drawn = drawn
        self._saved: Optional[List[Any]] = None

    def __enter__(self) -> "Screen":
        if self.drawn:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
            if sys.stdin.isatty():
                self._saved = termios.tcgetattr(sys.stdin)
                tty.setcbreak(sys.stdin)
            self._write("\x1b[?1049h\x1b[?25l")
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], _: Optional[TracebackType]) -> None:
        if self._saved is not None:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._saved)
        if self.drawn:
            self._write("\x1b[?25h\x1b[?1049l")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def draw(self, lines: Sequence[str]) -> None:
        """Shows lines, as far as there is room."""
        width, height = shutil.get_terminal_size()
        if len(lines) > height:
            lines = [*lines[: height - 1], f"… and {len(lines) - height + 1} more lines"]
        self._write("\x1b[H" + "\r\n".join(line[:width] + "\x1b[K" for line in lines) + "\x1b[J")

    def wait(self, until: float) -> bool:
        """Waits for a time of time.monotonic(), and returns False at once where q is pressed."""
        while True:
            left = until - time.monotonic()
            if self._saved is None:
                time.sleep(max(0.0, left))
                return True
            if not select.select([sys.stdin], [], [], max(0.0, left))[0]:
                return True
            key = os.read(sys.stdin.fileno(), 64)
            if not key or set(key) & {ord("q"), ord("Q"), 4}:  # 4: Ctrl-D
                return False

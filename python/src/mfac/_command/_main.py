"""The command line: flags, the connection, and how errors are told."""

import argparse
import json
import os
import platform
import sys
from typing import Any, NoReturn, Sequence

from .._agent import binary_of
from .._client import TLS, Client, connect
from .._errors import MFACError, Unavailable, invalid
from .._version import PROTOCOL, __version__
from . import _plot, _status, _top
from ._text import duration

_CONNECT = 5.0  # seconds

_TOP = """\
Shows each run as it trains: gradients a second, their bytes, how full the window is and its condition.

Gradients are counted by the window's version over the last five seconds, or the last two ticks if these are farther apart; a forget or a
set counts as one. Their bytes are those of d float32. In a terminal it draws one screen, which q or Ctrl-C ends; else it prints a line for
each run at each tick, or with --json an object. It goes on where the cluster doesn't answer, and says so.
"""

_PLOT = f"""\
Draws numbers of a run, in the terminal or as an SVG.

Of the window as it is:
  {_plot.names(_plot.NOW)}
Over time, asked at each --interval until --count, q or Ctrl-C (the SVG is there, and written anew, from the second tick on):
  {_plot.names(_plot.OVER_TIME)}
"""


class _Parser(argparse.ArgumentParser):
    """Errors as the tool tells them."""

    def error(self, message: str) -> NoReturn:
        usage = self.format_usage().strip()[len("usage: ") :]
        self.exit(2, f"mfac: {message}\nUsage: {usage} ({self.prog} --help says more)\n")


def _connection(parser: argparse.ArgumentParser, default: Any) -> None:
    """The flags that a command has before and after its name: there without defaults, which would hide what stands before."""
    group = parser.add_argument_group("connection")

    def add(flag: str, metavar: str, text: str, **kind: Any) -> None:
        group.add_argument(flag, metavar=metavar, help=text, default=default, **kind)

    add("--server", "URL", "NATS url, or several with commas between (default NATS_URL, or nats://127.0.0.1:4222)")
    add("--creds", "FILE", "JWT credentials for NATS")
    add("--nkey", "FILE", "an nkey's seed for NATS")
    add("--tls-ca", "FILE", "authorities that NATS' certificate is checked against")
    add("--tls-cert", "FILE", "the certificate to show to NATS")
    add("--tls-key", "FILE", "the certificate's key")
    add("--tenant", "NAME", "whose runs these are (default default)")
    add("--name", "NAME", "this client's, which NATS permissions are given to (default random)")
    add("--timeout", "TIME", "give up on an answer after this time, as 20s (default 5s)", type=duration)
    group.add_argument("--json", action="store_true", help="print JSON", default=default)


def parser() -> argparse.ArgumentParser:
    root = _Parser(
        prog="python -m mfac",
        usage="python -m mfac COMMAND [flags]",
        description="How a cluster of mfac and its runs stand. The tool does all else: python -m mfac tool calls that of the wheel.",
        epilog="Results go to stdout, errors to stderr; exit code 1 is an error, 2 a command that is not understood.",
    )
    _connection(root, None)
    commands = root.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, short: str, text: str = "", args: str = "") -> argparse.ArgumentParser:
        p = commands.add_parser(
            name, help=short, description=text or short, formatter_class=argparse.RawDescriptionHelpFormatter,
            prog=f"python -m mfac {name}", usage=f"python -m mfac {name} {args}[flags]",
        )  # fmt: skip
        _connection(p, argparse.SUPPRESS)
        return p

    command("status", "Show workers and runs: how full windows are, their versions, damping and condition")
    top = command("top", "Show runs live: gradients a second, bytes, fill, condition", _TOP)
    plot = command("plot", "Draw a run's spectrum, or its numbers over time", _PLOT, "RUN [WHAT ...] ")
    plot.add_argument("run", metavar="RUN")
    plot.add_argument("what", metavar="WHAT", nargs="*", default=[], help="one or several of the above (default spectrum)")
    plot.add_argument("-o", "--output", metavar="FILE", default="", help="an .svg to write; in the terminal if left out")
    for p in (top, plot):
        p.add_argument("--interval", metavar="TIME", type=duration, default=1.0, help="between two ticks, as 500ms or 2s (default 1s)")
        p.add_argument("--count", metavar="N", type=int, default=None, help="end after so many ticks")
    command("version", "Print the versions of the package and of the binary that it starts")
    commands.add_parser("tool", help="Call the tool mfac: python -m mfac tool run ls", add_help=False)
    return root


def _url(given: argparse.Namespace) -> str:
    return given.server or os.environ.get("NATS_URL") or "nats://127.0.0.1:4222"


def _connected(given: argparse.Namespace) -> Client:
    tls = [given.tls_ca or "", given.tls_cert or "", given.tls_key or ""]
    for flag, file in zip(("creds", "nkey", "tls-ca", "tls-cert", "tls-key"), (given.creds, given.nkey, *tls)):
        if file and not os.access(file, os.R_OK):
            raise invalid(flag, file, "a file that can be read")
    try:
        return connect(
            _url(given), creds=given.creds or "", nkey=given.nkey or "", tls=TLS(*tls) if any(tls) else None,
            tenant=given.tenant or "", name=given.name or "", timeout=given.timeout or _CONNECT,
        )  # fmt: skip
    except Unavailable as e:
        raise Unavailable(f"{e}; `mfac up` starts a cluster here, --server or NATS_URL names another") from e


def _version(given: argparse.Namespace) -> None:
    what = {"version": __version__, "protocol": str(PROTOCOL), "python": platform.python_version(), "binary": binary_of(None)}
    if given.json:
        print(json.dumps(what, indent=2))
    else:
        print(f"mfac {__version__} for Python {what['python']}, agent's protocol {PROTOCOL}, binary {what['binary']}")


def _run(given: argparse.Namespace) -> None:
    if given.command == "version":
        _version(given)
        return
    if given.command in ("top", "plot"):
        if not given.interval >= 0.05:
            raise invalid("interval", f"{given.interval:g}s", "at least 50ms")
        if given.count is not None and given.count < 1:
            raise invalid("count", given.count, "> 0")
    if given.command == "plot":
        _plot.check(given)
    with _connected(given) as client:
        {"status": _status.status, "top": _top.top, "plot": _plot.plot}[given.command](client, given, _url(given))


def main(args: Sequence[str]) -> int:
    """Runs a command line, and returns the exit code."""
    p = parser()
    if list(args[:1]) == ["tool"]:
        try:
            os.execv(binary_of(None), ["mfac", *args[1:]])
        except (MFACError, OSError) as e:
            print(f"mfac: {e}", file=sys.stderr)
            return 1
    given = p.parse_args(args)
    if given.command is None:
        p.print_help()
        return 0
    if given.command == "tool":
        p.error("the tool's flags stand behind it: python -m mfac tool run ls --server URL")
    try:
        _run(given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has had enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("mfac: interrupted", file=sys.stderr)
        return 1
    except (MFACError, OSError) as e:
        print("mfac: " + str(e).replace("\n", "; "), file=sys.stderr)
        return 1
    return 0

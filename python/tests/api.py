"""The API as the sources have it: what test_api.py looks at, and docs/python-api.md, which is made of it.

    python3 tests/api.py --write     # makes the page anew

The sources are read, not imported: neither torch nor a binary is needed.
"""

import ast
import functools
import re
import sys
import textwrap
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "python" / "src" / "mfac"
PAGE = ROOT / "docs" / "python-api.md"
HEAD = """# The Python API

Made of the docstrings by `python3 python/tests/api.py --write`; a test holds the one to the other, and the tests run the examples.
[python.md](python.md) and [torch.md](torch.md) are the guides.
"""

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


class Entry(NamedTuple):
    """A public name: of which module, how it is called there, its docstring, and the arguments that it has."""

    module: str
    name: str
    kind: str
    doc: str
    signature: str
    arguments: List[str]
    around: str  # the docstring of its class


@functools.lru_cache(1)
def entries() -> List[Entry]:
    """All that the packages export, and the public methods and properties of it."""
    return [*_package("mfac", SOURCES / "__init__.py"), *_package("mfac.torch", SOURCES / "torch" / "__init__.py")]


def _package(module: str, init: Path) -> Iterator[Entry]:
    tree = ast.parse(init.read_text(encoding="utf-8"))
    where: Dict[str, Path] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            where.update((a.name, init.parent / f"{node.module}.py") for a in node.names)
    exported = next(ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__")
    for name in (n for n in exported if not n.startswith("__")):
        body = ast.parse(where[name].read_text(encoding="utf-8")).body
        node = next(n for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == name)
        if isinstance(node, ast.ClassDef):
            yield from _class(module, node, init.parent)
        else:
            yield _entry(module, "", node, "")


def _class(module: str, node: ast.ClassDef, folder: Path) -> Iterator[Entry]:
    doc = ast.get_docstring(node) or ""
    bases = [ast.unparse(b) for b in node.bases]
    kind = "tuple" if "NamedTuple" in bases else "class"
    methods = [m for m in (_method(n, folder) for n in node.body) if m is not None]
    init = next((n for n in methods if n.name == "__init__"), None)
    signature = ""
    arguments: List[str] = []
    if kind == "tuple":
        fields = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        signature = f"({', '.join(fields)})"
    elif init is not None:
        signature, arguments = _signature(init)
    if module == "mfac" and node.name in ("Client", "Run"):  # made by others
        signature, arguments = "", []
    if any(b.endswith("Error") or b in ("Exception", "Invalid") for b in bases):
        kind, signature, arguments = "exception", f"({', '.join(bases)})", []
    yield Entry(module, node.name, kind, doc, signature, arguments, "")
    for n in methods:
        if not n.name.startswith("_"):
            yield _entry(module, node.name, n, doc)


def _method(node: ast.stmt, folder: Path) -> Optional[Function]:
    """A method: a def, or a function of another file, ``ihvp = _products.ihvp``."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node
    value = node.value if isinstance(node, ast.Assign) else None
    if not isinstance(value, ast.Attribute) or not isinstance(value.value, ast.Name):
        return None
    body = ast.parse((folder / f"{value.value.id}.py").read_text(encoding="utf-8")).body
    return next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == value.attr)


def _entry(module: str, of: str, node: Function, around: str) -> Entry:
    decorated = [ast.unparse(d) for d in node.decorator_list]
    signature, arguments = ("", []) if "property" in decorated else _signature(node)
    kind = "property" if "property" in decorated else "method" if of else "function"
    return Entry(module, f"{of}.{node.name}" if of else node.name, kind, ast.get_docstring(node) or "", signature, arguments, around)


def _signature(node: Function) -> Tuple[str, List[str]]:
    """Names and defaults: the types are in the docstrings."""
    a = node.args
    parts: List[str] = []
    names: List[str] = []

    def add(arg: ast.arg, default: Optional[ast.expr], star: str = "") -> None:
        if arg.arg in ("self", "cls"):
            return
        names.append(arg.arg)
        parts.append(star + arg.arg + ("" if default is None else f"={ast.unparse(default)}"))

    plain = [*a.posonlyargs, *a.args]
    for arg, default in zip(plain, [None] * (len(plain) - len(a.defaults)) + list(a.defaults)):
        add(arg, default)
    if a.vararg:
        add(a.vararg, None, "*")
    elif a.kwonlyargs:
        parts.append("*")
    for arg, default in zip(a.kwonlyargs, a.kw_defaults):
        add(arg, default)
    if a.kwarg:
        add(a.kwarg, None, "**")
    return f"({', '.join(parts)})", names


def page() -> str:
    lines = [HEAD]
    module = ""
    for e in entries():
        if e.module != module:
            module = e.module
            lines.append(f"\n## {module}\n")
        level = "####" if "." in e.name else "###"
        lines.append(f"\n{level} {'' if e.kind in ('function', 'method', 'property') else e.kind + ' '}`{e.name}{e.signature}`\n")
        lines.append(_markdown(e.doc))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def _markdown(doc: str) -> str:
    """A docstring as Markdown: arguments and errors as lists, formulas and examples as code."""
    out: List[str] = []
    for block in re.split(r"\n{2,}", re.sub(r"  # doctest: \S+", "", doc).replace("``", "`")):
        first = block.split("\n", 1)[0]
        if block.lstrip().startswith(">>>"):
            out.append("```python\n" + block + "\n```")
        elif first in ("Args:", "Raises:", "Returns:"):
            rest = textwrap.dedent(block.split("\n", 1)[1])
            items = re.sub(r"(?m)^([A-Za-z_][\w, ]*):", r"- **\1**:", rest)
            out.append(f"{first[:-1]}:\n\n" + items)
        elif block.startswith("    "):
            out.append("```\n" + textwrap.dedent(block) + "\n```")
        else:
            out.append(block)
    return "\n\n".join(out) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        raise SystemExit(__doc__)
    PAGE.write_text(page(), encoding="utf-8")

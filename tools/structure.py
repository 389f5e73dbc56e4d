"""Measures how the package is built: ``python -m tools.structure [--root CHECKOUT] [--list]``.

What is counted, all of it in ``sqlsessions/`` and from the code itself:

files, lines: Modules, all of their lines, and those of code: not blank, no comment, no docstring.
circles: Sets of modules that import each other, directly or by way of others; with and without the imports
    that only type checkers see.
upward imports: Imports of a module in a higher layer than one's own, by `tools.layers`. In an older checkout,
    a module has the layer of the one that it was renamed to since.
functions that only forward: Their body is one call, awaited or not, whose arguments are exactly the
    parameters of the function; of functions without parameters, calls by the function's own name. What exists
    to forward, such as a storage over another one, counts too.
the path of an operation: An operation is run, and every call of a function of the package noted, in all
    threads and tasks: files is how many files the called functions are in, changes how often a call was in
    another file than the call before it. Connections are open by then, and a coroutine that goes on after a
    wait is not called again. The fewest changes of five runs count: threads make the order vary.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from .imports import Imports, module_of
from .layers import LAYERS, OUTSIDE, PACKAGE
from .operations import trails

HERE = Path(__file__).parent.parent
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def code_lines(source: str) -> int:
    """How many lines hold code."""
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and _is_text(node):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def forwarding(source: str) -> list[str]:
    """The functions that only forward, with the classes that they are in."""
    found = []

    def search(node: ast.AST, within: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (Function, ast.ClassDef)):
                if isinstance(child, Function) and forwards(child):
                    found.append(within + child.name)
                search(child, f"{within}{child.name}.")
            else:
                search(child, within)

    search(ast.parse(source), "")
    return found


def forwards(function: Function) -> bool:
    """Whether a function only forwards."""
    body = [statement for statement in function.body if not _is_text(statement)]
    if len(body) != 1 or not isinstance(body[0], (ast.Return, ast.Expr)):
        return False
    call = body[0].value
    while isinstance(call, (ast.Await, ast.YieldFrom)):
        call = call.value
    if not isinstance(call, ast.Call) or "super()" in ast.unparse(call.func):
        return False
    arguments = function.args
    parameters = [one.arg for one in (*arguments.posonlyargs, *arguments.args)]
    if parameters[:1] in (["self"], ["cls"]):
        del parameters[0]
    wanted = [
        *parameters,
        *([f"*{arguments.vararg.arg}"] if arguments.vararg else []),
        *sorted(one.arg for one in arguments.kwonlyargs),
        *([f"**{arguments.kwarg.arg}"] if arguments.kwarg else []),
    ]
    named = [keyword for keyword in call.keywords if keyword.arg]
    if any(ast.unparse(keyword.value) != keyword.arg for keyword in named):
        return False
    given = [
        *(ast.unparse(one) for one in call.args),
        *sorted(str(keyword.arg) for keyword in named),
        *(f"**{ast.unparse(keyword.value)}" for keyword in call.keywords if not keyword.arg),
    ]
    callee = ast.unparse(call.func).rpartition(".")[2]
    return sorted(given) == sorted(wanted) and (bool(wanted) or callee.strip("_") == function.name.strip("_"))


def moved(root: Path) -> dict[str, str]:
    """The modules that were renamed between the commit of another checkout and ours, and their names now."""
    if root == HERE:
        return {}
    commit = _git(root, "rev-parse", "HEAD").strip()
    log = _git(
        HERE, "log", "--reverse", "--format=", "--name-status", "-M30%", f"{commit}..HEAD", "--", PACKAGE
    )
    now: dict[str, str] = {}
    for line in log.splitlines():
        kind, *paths = line.split("\t")
        if kind.startswith("R"):
            old, new = map(module_of, paths)
            now |= {first: new for first, last in now.items() if last == old}
            now.setdefault(old, new)
    return now


def measured(root: Path) -> Iterator[tuple[str, list[str]]]:
    """What is measured, line by line, each with its details."""
    sources = {path.relative_to(root): path.read_text() for path in sorted((root / PACKAGE).rglob("*.py"))}
    yield f"files: {len(sources)}", []
    total, code = (sum(map(count, sources.values())) for count in (lambda text: text.count("\n"), code_lines))
    yield f"lines: {total:,}, {code:,} of them code", []

    names = moved(root)
    everything, running = (
        Imports(types=types, named=lambda module: names.get(module, module)) for types in (True, False)
    )
    for imports, which in ((running, "as it runs"), (everything, "with imports for type checkers")):
        circles = imports.circles()
        yield (
            f"circles of imports, {which}: {len(circles)}, of {sum(map(len, circles))} modules",
            [", ".join(circle) for circle in circles],
        )
    for imports, which in ((running, "as it runs"), (everything, "with imports for type checkers")):
        upward = imports.upward()
        yield f"upward imports, {which}: {len(upward)}", [" imports ".join(pair) for pair in upward]
    outside = re.compile(rf"({'|'.join(LAYERS)}|{PACKAGE}\.({'|'.join(OUTSIDE)})(\..+)?)")
    homeless = [
        module
        for module in everything.modules
        if everything.room(module) is None and not outside.fullmatch(module)
    ]
    yield f"modules in no layer: {len(homeless)}", homeless

    only = [f"{path}: {name}" for path, source in sources.items() for name in forwarding(source)]
    yield f"functions that only forward: {len(only)}", only
    for name, trail in trails(root).items():
        if isinstance(trail, str):
            yield f"{name}: {trail}", []
        else:
            yield f"{name}: {trail.files} files, {trail.changes} changes", trail.steps()


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a docstring, or another text that nothing uses."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Print what is measured."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.structure", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=HERE, help="a checkout; this one unless set")
    parser.add_argument("--list", action="store_true", help="name what is counted")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    sys.path.insert(0, str(root))
    for line, details in measured(root):
        sys.stdout.write(f"{line}\n")
        if arguments.list:
            sys.stdout.writelines(f"    {detail}\n" for detail in details)


if __name__ == "__main__":
    main()

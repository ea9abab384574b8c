"""Every sentence that the package raises as a `UserError`, read from its source."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import st4rtrack

ROOT = Path(st4rtrack.__file__).parent
PLACE = "\N{BLACK SQUARE}"
"""Stands for what is put in when the sentence is raised."""


@dataclass(frozen=True)
class Message:
    """A sentence and where it is raised."""

    place: str
    text: str


def messages() -> list[Message]:
    """Those whose words stand where they are raised."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        constants = dict(_constants(ast.parse(path.read_text())))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "UserError" and node.args:
                texts = _texts(node.args[0], constants)
                found += [Message(f"{path.relative_to(ROOT)}:{node.lineno}", text) for text in texts if text != PLACE]
    return found


def _constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Texts that a module gives a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value.value


def _texts(node: ast.expr, constants: dict[str, str]) -> list[str]:
    """What an expression can be as a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.FormattedValue):
        return _texts(node.value, constants) if isinstance(node.value, ast.Name) else [PLACE]
    if isinstance(node, ast.Name):
        return [constants.get(node.id, PLACE)]
    if isinstance(node, ast.JoinedStr):
        return _joined([_texts(value, constants) for value in node.values])
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _joined([_texts(node.left, constants), _texts(node.right, constants)])
    if isinstance(node, ast.IfExp):
        return _texts(node.body, constants) + _texts(node.orelse, constants)
    return [PLACE]


def _joined(parts: list[list[str]]) -> list[str]:
    texts = [""]
    for part in parts:
        texts = [text + more for text in texts for more in part]
    return texts

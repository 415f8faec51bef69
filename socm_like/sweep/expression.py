"""Expressions of a campaign file: parsed as Python, allowed word by word, compiled once.

Nothing of Python can be reached from an expression: its tree is checked against a list of what is allowed, names
become look-ups in the parameter set, operators and functions those of :mod:`socm_like.sweep.arithmetic`.
"""

from __future__ import annotations

import ast
import keyword
import math
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from socm_like.errors import listed, suggest
from socm_like.sweep.arithmetic import FUNCTIONS, OPERATORS, bounded
from socm_like.sweep.faults import shown
from socm_like.sweep.values import Value

LENGTH = 1000
"""Characters of an expression."""
NESTING = 100
"""Levels of an expression; every ``+`` of a chain is one."""

ALLOWED = (
    "names, numbers, text, true and false, lists, + - * / // % **, comparisons, in, and, or, not, "
    f"a if b else c, and the functions {', '.join(sorted(FUNCTIONS))}"
)

FAILURES = (ArithmeticError, LookupError, TypeError, ValueError)
"""What computing an expression may raise; a KeyError names a name that the parameter set lacks."""

_NAMES = {"true": True, "false": False}
_WORD = re.compile(r"[^\W\d]\w*")


class ExpressionError(ValueError):
    """Not an expression; the text says what is wrong, where, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Names:
    """What an expression may read."""

    own: Collection[str]
    """The names of the parameter set."""
    outer: Collection[str] = ()
    """The names that enclosing sweeps set."""
    later: Collection[str] = ()
    """Names of the parameter set that do not exist yet; they are there for the message."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression, ready to be computed."""

    text: str
    reads: frozenset[str]
    compute: Callable[[Mapping[str, Value], Mapping[str, Value]], Any]
    """Takes a parameter set and the values of enclosing sweeps; raises one of FAILURES."""


def parse_expression(text: str, names: Names) -> Expression:
    """Return the expression that a text holds.

    Raises ExpressionError for anything that is not allowed.
    """
    if len(text) > LENGTH:
        raise ExpressionError(f"an expression has at most {LENGTH} characters, got {len(text)}")
    body = text.strip()
    if not body:
        raise ExpressionError('an empty expression; write one, as in "a < b"')
    translator = _Translator(names, text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python frowns upon, as 1if x else 2, is checked below like the rest
        tree = _parse(body, names, translator)
        arguments = ast.arguments(
            posonlyargs=[], args=[ast.arg(arg="own"), ast.arg(arg="outer")], kwonlyargs=[], kw_defaults=[], defaults=[]
        )
        function = ast.Lambda(args=arguments, body=translator.translated(tree.body, 0))
        code = compile(ast.fix_missing_locations(ast.Expression(body=function)), "<expression>", "eval")
    compute = eval(code, {"__builtins__": {}, **_GLOBALS})  # a tree made of what is allowed
    return Expression(body, frozenset(translator.reads), compute)


def _parse(body: str, names: Names, translator: _Translator) -> ast.Expression:
    try:
        return ast.parse(body, mode="eval")
    except SyntaxError as error:
        known = {*names.own, *names.outer}
        words = [word for word in _WORD.findall(body) if word in known and keyword.iskeyword(word)]
        hint = f"; {words[0]!r} is a word of Python: give the axis another name" if words else ""
        end = len(body.rpartition("\n")[2]) + 1  # where Python names no place, the text ends too early
        place = translator.place(error.lineno or 1, (error.offset or end) - 1)
        raise ExpressionError(f"{place}: not an expression ({error.msg}){hint}; allowed: {ALLOWED}") from error
    except (MemoryError, RecursionError) as error:
        raise ExpressionError("nested too deep; write it in steps, with derive") from error
    except ValueError as error:  # a null byte, before Python 3.11.4
        raise ExpressionError(f"not an expression ({error}); allowed: {ALLOWED}") from error


_GLOBALS: dict[str, Any] = {
    **{f"operator_{name}": operation for name, operation in OPERATORS.items()},
    **{f"function_{name}": function for name, function in FUNCTIONS.items()},
    "bounded": bounded,
}


class _Translator:
    """Checks a syntax tree and returns it with names, operators and functions replaced."""

    def __init__(self, names: Names, text: str) -> None:
        self.reads: set[str] = set()
        self._names = names
        self._lines = text.strip().split("\n")
        self._indent = len(text) - len(text.lstrip())

    def translated(self, node: ast.expr, depth: int) -> ast.expr:
        """Return the tree to compile; ExpressionError for the first part that is not allowed."""
        if depth > NESTING:
            raise ExpressionError(f"nested more than {NESTING} levels deep; write it in steps, with derive")

        def inner(part: ast.expr) -> ast.expr:
            return self.translated(part, depth + 1)

        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return _list([inner(part) for part in parts])
            case ast.BinOp(left=left, op=op, right=right) if type(op).__name__ in OPERATORS:
                return _call(f"operator_{type(op).__name__}", [inner(left), inner(right)])
            case ast.UnaryOp(op=ast.UAdd() | ast.USub() | ast.Not(), operand=operand):
                return ast.UnaryOp(op=node.op, operand=inner(operand))
            case ast.BoolOp(op=ast.And() | ast.Or(), values=parts):
                return ast.BoolOp(op=node.op, values=[inner(part) for part in parts])
            case ast.Compare(left=left, ops=ops, comparators=parts):
                if any(isinstance(op, ast.Is | ast.IsNot) for op in ops):
                    raise self._refused(node, "'is' is not allowed: write == or !=")
                return ast.Compare(left=inner(left), ops=ops, comparators=[inner(part) for part in parts])
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return ast.IfExp(test=inner(test), body=inner(body), orelse=inner(orelse))
            case ast.Call():
                return _call(f"function_{self._function(node)}", [inner(part) for part in node.args])
        raise self._refused(node, f"{_kind(node)} is not allowed")

    def _constant(self, node: ast.Constant) -> ast.expr:
        value = node.value
        if not isinstance(value, bool | int | float | str):
            raise self._refused(node, f"{shown(value)} is not allowed")
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(node, "write finite numbers")
        return ast.Constant(value=value)

    def _name(self, node: ast.Name | ast.Attribute) -> ast.expr:
        name = _dotted(node)
        for table, known in (("own", self._names.own), ("outer", self._names.outer)):
            if name in known:
                self.reads.add(name)
                return ast.Subscript(value=_load(table), slice=ast.Constant(value=name), ctx=ast.Load())
        if name in _NAMES:
            return ast.Constant(value=_NAMES[name])
        known = {*self._names.own, *self._names.outer}
        if name in self._names.later:
            found = f"{name!r} comes later; an expression reads what comes before it"
            raise ExpressionError(f"{self._place(node)}: {found}: {listed(known)}")
        if name.partition(".")[0] in known or not name:
            raise self._refused(node, "nothing may stand behind a value and a point")
        found = f"no name {name!r} here; known: {listed(known)}{suggest(name, known)}"
        raise ExpressionError(f"{self._place(node)}: {found}")

    def _function(self, node: ast.Call) -> str:
        name = _dotted(node.func)
        if name not in FUNCTIONS:
            raise self._refused(node, f"no function {shown(name)} here" if name else "only functions can be called")
        if node.keywords:
            raise self._refused(node, f"{name} takes values only, no keywords")
        return name

    def _refused(self, node: ast.expr, what: str) -> ExpressionError:
        return ExpressionError(f"{self._place(node)}: {what}; allowed: {ALLOWED}")

    def _place(self, node: ast.expr) -> str:
        before = self._lines[node.lineno - 1].encode(errors="replace")[: node.col_offset]
        return self.place(node.lineno, len(before.decode(errors="ignore")))

    def place(self, line: int, column: int) -> str:
        """Return where something stands in the text as it was written; ``column`` counts from 0."""
        column += 1 + (self._indent if line == 1 else 0)
        return f"column {column}" if line == 1 else f"line {line}, column {column}"


def _dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` for names joined by points, an empty string for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _list(parts: list[ast.expr]) -> ast.expr:
    made = ast.List(elts=parts, ctx=ast.Load())
    return made if all(isinstance(part, ast.Constant) for part in parts) else _call("bounded", [made])


def _load(name: str) -> ast.Name:
    return ast.Name(id=name, ctx=ast.Load())


def _call(name: str, arguments: list[ast.expr]) -> ast.expr:
    return ast.Call(func=_load(name), args=arguments, keywords=[])


_KINDS = {
    "BitAnd": "& (write and)",
    "BitOr": "| (write or)",
    "BitXor": "^ (write **)",
    "Dict": "a table",
    "Invert": "~ (write not)",
    "JoinedStr": "an f-string",
    "LShift": "<<",
    "MatMult": "@",
    "NamedExpr": ":=",
    "RShift": ">>",
    "Set": "a set (write a list)",
    "Starred": "a star",
    "Subscript": "an index",
}
"""What a refused part of a tree is, in the words of who wrote it."""


def _kind(node: ast.expr) -> str:
    kind = type(node.op).__name__ if isinstance(node, ast.BinOp | ast.UnaryOp) else type(node).__name__
    return _KINDS.get(kind, f"{kind!r}")

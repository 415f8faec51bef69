"""Expressions: what they may say, what they give, and that no text takes the machine."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from socm_like.sweep.expression import ALLOWED, FAILURES, Expression, ExpressionError, Names, parse_expression

VALUES: dict[str, Any] = {
    "a": 6,
    "b": 4,
    "x": 0.5,
    "s": "text",
    "yes": True,
    "l": [1, 2],
    "model.width": 8,
    "t": {"k": 1},
}
NAMES = Names(VALUES, ["seen", "outer.n"], ["soon"])
KNOWN = "a, b, l, model.width, outer.n, s, seen, t, x, yes"
OUTER = {"seen": 10, "outer.n": 3}


def compute(text: str) -> Any:
    return parse_expression(text, NAMES).compute(VALUES, OUTER)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a * 50000 // b", 75000),
        ("  a\n", 6),
        ("(a +\n b)", 10),
        ("model.width + outer.n - seen", 1),
        ("a / b", 1.5),
        ("a % b", 2),
        ("2 ** -1", 0.5),
        ("2 ** 4095 > 0", True),
        ("1 ** 10000", 1),
        ("-a + +b", -2),
        ("not a < b <= 4", True),
        ("a > b and s == 'text'", True),
        ("a in (1, 6) or a not in [b]", True),
        ("'ex' in s", True),
        ("s + '!' * 2", "text!!"),
        ("2 * [a]", [6, 6]),
        ("'a' * 10000 == 'a' * 5000 + 'a' * 5000", True),
        ("l + [3]", [1, 2, 3]),
        ("(a, [b], 'c')", [6, [4], "c"]),
        ("t == t", True),
        ("[t]", [{"k": 1}]),
        ("true and not false and True", True),
        ("1 if yes else 2", 1),
        ("abs(-3) + ceil(0.2) + floor(1.8)", 5),
        ("exp(0) + log(1) + log2(8) + log10(100) + sqrt(4)", 8.0),
        ("log(8, 2)", 3.0),
        ("max(a, b) - min([a, b])", 2),
        ("[int('12'), float('0.5'), float(3)]", [12, 0.5, 3.0]),
        ("[round(2.5), round(0.125, 2), round(1250, -2)]", [2, 0.12, 1200]),
        ("1if 1else 2", 1),
    ],
)
def test_an_expression_gives(text: str, result: Any) -> None:
    found = compute(text)
    assert (found, type(found)) == (result, type(result))


def test_an_expression_knows_what_it_reads() -> None:
    assert parse_expression("a < model.width and seen > 0 or true", NAMES).reads == {"a", "model.width", "seen"}


def test_an_axis_named_like_a_function_or_a_constant_is_read_by_its_name() -> None:
    names = Names(["min", "true"])
    assert parse_expression("min(min, 3) + true", names).compute({"min": 5, "true": 1}, {}) == 4


def refusal(text: str, names: Names = NAMES) -> str:
    with pytest.raises(ExpressionError) as error:
        parse_expression(text, names)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os')", "column 1: no function '__import__' here"),
        ("a + s.upper()", "column 5: no function 's.upper' here"),
        ("[a][0](1)", "column 1: only functions can be called"),
        ("a.real", "column 1: nothing may stand behind a value and a point"),
        ("'é' + (1).real", "column 7: nothing may stand behind a value and a point"),
        ("  l[0]", "column 3: an index is not allowed"),
        ("(a +\n  l[0])", "line 2, column 3: an index is not allowed"),
        ("lambda: 1", "column 1: 'Lambda' is not allowed"),
        ("[c for c in l]", "column 1: 'ListComp' is not allowed"),
        ("(c := 1)", "column 2: := is not allowed"),
        ("f'{a}'", "column 1: an f-string is not allowed"),
        ("{1: 2}", "column 1: a table is not allowed"),
        ("a in {1}", "column 6: a set (write a list) is not allowed"),
        ("a > 1 & b > 1", "column 5: & (write and) is not allowed"),
        ("~a", "column 1: ~ (write not) is not allowed"),
        ("a is b", "column 1: 'is' is not allowed: write == or !="),
        ("a is not b", "column 1: 'is' is not allowed: write == or !="),
        ("None", "column 1: None is not allowed"),
        ("1j", "column 1: 1j is not allowed"),
        ("b'x'", "column 1: b'x' is not allowed"),
        ("1e999", "column 1: write finite numbers"),
        ("[*l]", "column 2: a star is not allowed"),
        ("max(*l)", "column 5: a star is not allowed"),
        ("max(l, key=abs)", "column 1: max takes values only, no keywords"),
        ("a <", "column 4: not an expression (invalid syntax)"),
        ("a = 1", "column 3: not an expression (invalid syntax)"),
        ("(a\n))", "line 2, column 2: not an expression (unmatched ')')"),
    ],
)
def test_anything_else_is_refused_where_it_stands(text: str, message: str) -> None:
    assert refusal(text) == f"{message}; allowed: {ALLOWED}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aa < 1", f"column 1: no name 'aa' here; known: {KNOWN}; did you mean 'a'?"),
        ("1 < soon", f"column 5: 'soon' comes later; an expression reads what comes before it: {KNOWN}"),
        ("", 'an empty expression; write one, as in "a < b"'),
        ("a" * 1001, "an expression has at most 1000 characters, got 1001"),
        ("-" * 101 + "1", "nested more than 100 levels deep; write it in steps, with derive"),
    ],
)
def test_a_refusal_says_what_to_write(text: str, message: str) -> None:
    assert refusal(text) == message


def test_a_name_that_is_a_word_of_python_needs_another() -> None:
    hint = "'lambda' is a word of Python: give the axis another name"
    assert refusal("lambda < 3", Names(["lambda"])) == (
        f"column 8: not an expression (invalid syntax); {hint}; allowed: {ALLOWED}"
    )


def test_text_that_is_no_source_is_refused() -> None:
    assert "not an expression (" in refusal("\ud800")
    assert "not an expression (" in refusal("a\0")


def test_a_parser_that_runs_out_of_room_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("socm_like.sweep.expression.ast.parse", run_out)
    assert refusal("a") == "nested too deep; write it in steps, with derive"


LARGE = "more than 10000 characters or values"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("9 ** 9 ** 9", OverflowError, "the result has more than 4096 bits"),
        ("2 ** 4096", OverflowError, "the result has more than 4096 bits"),
        ("2 ** 4000 * 2 ** 4000", OverflowError, "the result has more than 4096 bits"),
        ("1e308 * 10", OverflowError, "the result is not finite"),
        ("1e308 - -1e308", OverflowError, "the result is not finite"),
        ("float('nan')", OverflowError, "the result is not finite"),
        ("(-8) ** 0.5", ValueError, "the result is not a real number"),
        ("'a' * 10 ** 9", ValueError, LARGE),
        ("10 ** 9 * [a]", ValueError, LARGE),
        ("'a' * 10001", ValueError, LARGE),
        ("[[0] * 9000] * 9000", ValueError, LARGE),
        ("[[0] * 9000, [0] * 9000]", ValueError, LARGE),
        ("'a' * 6000 + 'a' * 4001", ValueError, LARGE),
        ("'%9999999999d' % 1", TypeError, "% takes numbers, not str"),
        ("1 - [a]", TypeError, "- takes numbers, not list"),
        ("round(1, 10 ** 9)", ValueError, "round takes a whole number of digits, at most 400"),
        ("round(1, 0.5)", ValueError, "round takes a whole number of digits, at most 400"),
        ("a / 0", ZeroDivisionError, "division by zero"),
        ("[" * 66 + "a" + "]" * 66, ValueError, "lists nested more than 64 levels deep"),
    ],
)
def test_no_step_of_an_expression_grows_without_bound(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as found:
        compute(text)
    assert str(found.value) == message


def test_a_name_that_the_set_lacks_is_a_key_error_with_its_name() -> None:
    with pytest.raises(KeyError) as error:
        parse_expression("a < b", NAMES).compute({"a": 1}, OUTER)
    assert error.value.args == ("b",)


WORDS = (
    "a b x s yes l model.width t seen soon 0 1 7 0.5 1e308 'q' ( ( ) ) [ [ ] ] , + - * / // % ** < == in not and or if "
    "else is lambda : := { } . .real max( round( int( float( exp( __class__ ** 9 * 9999 # \\ ' \" @ & ~ é"
)
TOKENS = st.sampled_from([*WORDS.split(), "\n", "\0"])


@given(st.one_of(st.text(max_size=40), st.lists(TOKENS, max_size=25).map(" ".join)))
@example("(" * 999)
@example("[" * 199 + "]" * 199)
@example("-" * 999 + "1")
@example("a" + "+a" * 400)
@example("a" + ".x" * 400)
@example("a" + "()" * 400)
@example("not " * 200 + "1")
@example("1 if " * 100 + "1" + " else 1" * 100)
def test_no_text_raises_anything_else_or_takes_long(text: str) -> None:
    start = time.process_time()
    try:
        result = parse_expression(text, NAMES).compute(VALUES, OUTER)
        assert isinstance(result, bool | int | float | str | list | dict)
    except (ExpressionError, *FAILURES):
        pass
    assert time.process_time() - start < 0.5


OPERATIONS = st.sampled_from(["+", "-", "*", "<", "<=", "==", "!=", "and", "or", "//", "%"])
ARITHMETIC = st.recursive(
    st.sampled_from(["a", "b", "x", "1", "0", "2.5", "-3"]),
    lambda inner: st.one_of(
        st.tuples(inner, OPERATIONS, inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, inner, inner).map(lambda parts: f"({parts[0]} if {parts[1]} else {parts[2]})"),
        inner.map(lambda part: f"abs(not {part})"),
    ),
    max_leaves=12,
)


@given(ARITHMETIC, st.integers(-9, 9), st.integers(-9, 9), st.floats(-9, 9))
def test_arithmetic_is_that_of_python(text: str, a: int, b: int, x: float) -> None:
    def outcome(compute: Any) -> Any:
        try:
            return repr(compute())
        except ZeroDivisionError:
            return "division by zero"

    values = {"a": a, "b": b, "x": x}
    mine = outcome(lambda: parse_expression(text, Names(values)).compute(values, {}))
    assert mine == outcome(lambda: eval(text, {"__builtins__": {}, "abs": abs}, dict(values)))


def test_a_hundred_thousand_comparisons_take_less_than_a_third_of_a_second() -> None:
    expression: Expression = parse_expression("a < b", NAMES)
    start = time.process_time()
    for _ in range(100_000):
        expression.compute(VALUES, OUTER)
    assert time.process_time() - start < 0.3

"""What math-verify overlooks in two sympy expressions, and what need not be asked of it.

It takes tiny numbers for nothing and two equations without a solution for one. To find two expressions different it
simplifies their difference and solves equations, where their values at one point tell at once.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from mpmath.libmp import NoConvergence
from sympy import (
    And,
    Basic,
    Eq,
    Expr,
    FiniteSet,
    Float,
    GreaterThan,
    Integral,
    Interval,
    LessThan,
    Limit,
    MatrixBase,
    Poly,
    PolynomialError,
    Product,
    Rational,
    Set,
    StrictGreaterThan,
    StrictLessThan,
    Sum,
    Symbol,
    Tuple,
    UnevaluatedExpr,
    im,
    nan,
    oo,
    preorder_traversal,
    re,
    simplify,
    solve,
)

from judges.rules.math.shapes import near

SYMBOL_VALUES = [Rational(*pair) for pair in ((743, 997), (1213, 991), (601, 313), (367, 211), (733, 283), (457, 179))]
"""Values of the first symbols, of which no simple expression makes the same by chance."""
ENDLESS_FORMS = (Sum, Product, Integral, Limit)
"""To evaluate these may take for ever."""
LARGE = 10**10_000
"""Above it a number is not written out to be compared."""
UNSOLVABLE = (NotImplementedError, TypeError, ValueError, ZeroDivisionError, AttributeError)


def surely_differ(one: Any, other: Any) -> bool:
    """Whether two expressions or equations have different values at a point, so that they cannot be equal."""
    pair = (one, other)
    if any(isinstance(part, Basic) and part.has(*ENDLESS_FORMS) and part.free_symbols for part in pair):
        return False
    if isinstance(one, Eq) and isinstance(other, Eq):
        return _misses(one, other)
    if not all(isinstance(part, Expr) and not isinstance(part, Symbol) for part in pair) or _unevaluated(one, other):
        return False
    point = _point(one, other)
    values = [_value(part, point) for part in pair]
    if None in values:
        return False
    gap, size = abs(values[0] - values[1]), max(map(abs, values))  # type: ignore[operator, arg-type]
    return gap > 1e-5 * size and (gap > 2e-6 or not any(part.has(Float) for part in pair))


def same_number(one: Any, other: Any) -> bool | None:
    """Whether two numbers are equal: to 20 digits, or as far as a decimal goes; None if they are not two numbers."""
    pair = (one, other)
    numbers = (isinstance(part, Expr) and part.is_number and part.is_finite is not False for part in pair)
    if not all(numbers) or _unevaluated(*pair):
        return None
    rough = [part.evalf(15) for part in pair]
    if any(part.has(Float) for part in pair):
        if not all((value.is_Float and value.is_finite) or value.is_Rational for value in rough):
            return None
        return near(*(Fraction(str(value)) for value in rough))
    small = (value.is_Float and abs(value) < LARGE for value in rough)
    if all(is_small or part.is_Rational for is_small, part in zip(small, pair, strict=True)):
        pair = (one.doit(), other.doit())
        if all(part.is_Rational for part in pair):
            return bool(pair[0] == pair[1])
    values = [part.evalf(40) for part in pair]
    if not all(value.is_number and not value.has(nan) for value in values):
        return None
    if not all(value.is_finite for value in values):  # 1/0 is no number, however far it is from one
        return False if any(value.is_finite for value in values) else None
    gap, size = abs(values[0] - values[1]), max(map(abs, values))
    if 0 < gap < 1e-60 or (0 < size * 1e-20 >= gap and size > LARGE):  # digits alone do not tell 7^n from 7^n + 1
        return None
    return bool(gap <= size * 1e-20)


def differ(gold: Any, answer: Any) -> bool:
    """Whether two expressions that math-verify finds equal are not: tiny numbers, equations without a solution."""
    if isinstance(gold, Eq) and isinstance(answer, Eq):
        try:
            if gold == answer or solve(gold) or solve(answer):
                return False
            return bool(simplify((gold.lhs - gold.rhs) / (answer.lhs - answer.rhs)).free_symbols)
        except UNSOLVABLE:
            return False
    return any(_apart(one, other) for one, other in _leaves(gold, answer))


def as_interval(expression: Any, other: Any) -> Any:
    """1 < x <= 2 as the interval that it is, where it is compared with a set; else the expression."""
    relations = expression.args if isinstance(expression, And) else (expression,)
    bounds = [_bound(relation) for relation in relations]
    if not isinstance(other, Set) or None in bounds or len(bounds) > 2 or len({one[0] for one in bounds if one}) != 1:
        return expression
    low, high, left, right = -oo, oo, True, True
    for _, upper, value, strict in (one for one in bounds if one):
        low, left = (low, left) if upper else (value, strict)
        high, right = (value, strict) if upper else (high, right)
    return Interval(low, high, left, right)


def _bound(relation: Any) -> tuple[Any, bool, Any, bool] | None:
    """Symbol, whether it is bounded above, by what, and whether strictly."""
    if not isinstance(relation, GreaterThan | LessThan | StrictGreaterThan | StrictLessThan):
        return None
    less, strict = (
        isinstance(relation, LessThan | StrictLessThan),
        isinstance(relation, StrictGreaterThan | StrictLessThan),
    )
    if isinstance(relation.lhs, Symbol) and relation.rhs.is_number:
        return relation.lhs, less, relation.rhs, strict
    if isinstance(relation.rhs, Symbol) and relation.lhs.is_number:
        return relation.rhs, not less, relation.lhs, strict
    return None


def _misses(one: Any, other: Any) -> bool:
    """Whether a solution of the one equation, a polynomial in a symbol, does not solve the other."""
    point = _point(one, other)
    for symbol in sorted(one.free_symbols, key=str):
        fixed = {name: value for name, value in point.items() if name != symbol}
        try:
            roots = Poly((one.lhs - one.rhs).subs(fixed), symbol).nroots(n=15)
        except (*UNSOLVABLE, PolynomialError, NoConvergence):
            continue
        for root in [re(root) for root in roots if abs(im(root)) < 1e-9] or roots:
            left, right = (_value(side, {**fixed, symbol: root}) for side in (other.lhs, other.rhs))
            if left is not None and right is not None:
                return abs(left - right) > 1e-6 * (1 + abs(left) + abs(right))
    return False


def _point(*expressions: Any) -> dict[Any, Any]:
    symbols = sorted({symbol for one in expressions for symbol in one.free_symbols}, key=str)
    return dict(zip(symbols, SYMBOL_VALUES, strict=False))


def _value(expression: Any, point: dict[Any, Any]) -> complex | None:
    try:
        value = complex(expression.subs(point).evalf(15))
    except (*UNSOLVABLE, OverflowError):
        return None
    return value if abs(value) < 1e300 else None  # nor NaN


def _unevaluated(*expressions: Any) -> bool:
    """Whether there are percentages, which are equal to two numbers."""
    return any(expression.has(UnevaluatedExpr) for expression in expressions)


def _leaves(gold: Any, answer: Any) -> Iterator[tuple[Any, Any]]:
    """The numbers of two expressions that stand in the same places."""
    ours, theirs = _parts(gold), _parts(answer)
    if len(ours) == len(theirs):
        for one, other in zip(ours, theirs, strict=True):
            yield from [(one, other)] if one is gold and other is answer else _leaves(one, other)


def _parts(expression: Any) -> list[Any]:
    if isinstance(expression, Eq):
        return [expression.rhs]
    if isinstance(expression, MatrixBase):
        return list(expression.flat())
    if isinstance(expression, Interval):
        return [expression.start, expression.end]
    if isinstance(expression, FiniteSet) and all(part.is_number for part in expression.args):
        return sorted(expression.args, key=lambda part: (complex(part).real, complex(part).imag))
    return list(expression.args) if isinstance(expression, Tuple) else [expression]


def _apart(one: Any, other: Any) -> bool:
    """Whether two numbers differ by more than is lost in writing them."""
    pair = (one, other)
    if one == other or not all(isinstance(part, Expr) for part in pair) or _unevaluated(one, other):
        return False
    if all(part.free_symbols and _tiny(part) for part in pair):
        return bool((one / other).cancel() != 1)
    return same_number(one, other) is False


def _tiny(expression: Any) -> bool:
    """Whether there is a number in it that math-verify takes for nothing."""
    parts = (part for part in preorder_traversal(expression) if part.is_number and part.is_real and not part.is_zero)
    return any(abs(part.evalf(15)) < 1e-9 for part in parts)


def read_quickly() -> None:
    """Has formulas read in two stages: antlr's quick prediction either finds what the thorough one would, or fails."""
    from antlr4.atn.PredictionMode import PredictionMode
    from latex2sympy2_extended.latex2sympy2 import _Latex2Sympy

    thorough, created = _Latex2Sympy.parse, _Latex2Sympy.create_parser

    def quick(reader: Any, latex: str) -> Any:
        parser = created(reader, latex)
        parser._interp.predictionMode = reader.mode
        return parser

    def staged(reader: Any, latex: str) -> Any:
        for reader.mode in (PredictionMode.SLL, PredictionMode.LL):
            try:
                return thorough(reader, latex)
            except Exception:
                if reader.mode == PredictionMode.LL:
                    raise
        return None

    _Latex2Sympy.create_parser, _Latex2Sympy.parse = quick, staged

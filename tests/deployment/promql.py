"""What a PromQL expression asks for: the series it names with the labels it uses, and the labels its result has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from promql_parser import (
    AggModifierType,
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
    parse,
)

OF_TARGET: Final = frozenset({"job", "instance"})
"""Labels that Prometheus adds to every series."""
_KEEP_LABELS: Final = ("topk", "bottomk")

Labels = frozenset[str]


@dataclass(slots=True)
class Question:
    """An expression, taken apart."""

    result: Labels = frozenset()
    """Labels of what comes out."""
    problems: list[str] = field(default_factory=list)


def examine(text: str, known: Mapping[str, Labels]) -> Question:
    """Look through an expression. `known`: the labels of every series there is."""
    question = Question()
    question.result = _labels(parse(text), known, question.problems)
    return question


def _labels(expression: Expr, known: Mapping[str, Labels], problems: list[str]) -> Labels:
    def inner(part: Expr) -> Labels:
        return _labels(part, known, problems)

    labels: Labels = frozenset()  # of a number or a string
    match expression:
        case VectorSelector():
            labels = _selected(expression, known, problems)
        case MatrixSelector():
            labels = inner(expression.vector_selector)
        case ParenExpr() | SubqueryExpr() | UnaryExpr():
            labels = inner(expression.expr)
        case Call():
            labels = _called(expression, inner)
        case AggregateExpr():
            labels = _aggregated(expression, inner, problems)
        case BinaryExpr():
            sides = [side for side in (inner(expression.lhs), inner(expression.rhs)) if side]
            labels = frozenset.intersection(*sides) if sides else labels
    return labels


def _selected(selector: VectorSelector, known: Mapping[str, Labels], problems: list[str]) -> Labels:
    name = selector.name or ""
    if name not in known:
        problems.append(f"there is no series {name!r}")
        return frozenset()
    labels = known[name] | OF_TARGET
    used = {matcher.name for matcher in selector.matchers.matchers}
    problems.extend(f"{name} has no label {label!r}" for label in sorted(used - labels))
    return labels


def _called(call: Call, inner: Callable[[Expr], Labels]) -> Labels:
    labels = frozenset[str]().union(*(inner(argument) for argument in call.args))
    match call.func.name:
        case "absent" | "absent_over_time" | "scalar" | "time":
            return frozenset()
        case "histogram_quantile":
            return labels - {"le"}
        case _:
            return labels


def _aggregated(expression: AggregateExpr, inner: Callable[[Expr], Labels], problems: list[str]) -> Labels:
    labels = inner(expression.expr)
    if any(str(expression.op) == name for name in _KEEP_LABELS):
        return labels
    if expression.modifier is None:
        return frozenset()
    named = frozenset(expression.modifier.labels)
    if expression.modifier.type == AggModifierType.Without:
        return labels - named
    problems.extend(f"nothing inside has the label {label!r}" for label in sorted(named - labels))
    return named & labels

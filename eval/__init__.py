"""Evaluation: metrics, one evaluation of a set of scores, tables and plots."""

from mriqa.files import write_json

from .evaluation import evaluate_scores
from .metrics import krcc, plcc, rmse, srcc
from .report import markdown_table, print_table, write_markdown

__all__ = [
    "evaluate_scores",
    "krcc",
    "markdown_table",
    "plcc",
    "print_table",
    "rmse",
    "srcc",
    "write_json",
    "write_markdown",
]

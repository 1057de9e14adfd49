"""Executed notebooks in, one offline HTML page out."""

from analysis.report.leaks import leaks
from analysis.report.page import render

__all__ = ["leaks", "render"]

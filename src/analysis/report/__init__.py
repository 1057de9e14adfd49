"""Executed notebooks in, one offline HTML page out."""

from analysis.report.page import render

__all__ = ["render"]

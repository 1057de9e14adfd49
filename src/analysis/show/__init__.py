"""Frames and numbers in, figures, tables and sentences out."""

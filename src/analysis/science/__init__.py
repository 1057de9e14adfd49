"""Arithmetic of the study: frames in, frames and numbers out. No files, no network, no clock."""

"""The study of Gemma 4 multi-token prediction: everything a notebook calls."""

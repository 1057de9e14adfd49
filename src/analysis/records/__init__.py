"""The store: what was measured, append-only, with where it came from. Measuring writes it, science reads it."""

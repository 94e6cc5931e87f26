"""Sequence mixers, one a file: what moves information between tokens and owns per-slot state."""

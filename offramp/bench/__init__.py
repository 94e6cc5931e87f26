"""Engines side by side: ours and others, each in a process of its own, taking turns on the same prompts."""

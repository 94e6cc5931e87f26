"""What jobs do: one file a kind, found by its name in `perform`."""

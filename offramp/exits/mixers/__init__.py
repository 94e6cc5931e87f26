"""What remembers inside gates and bridges, one a file: `mixer(width)` makes it at the width of a trunk."""

"""Other engines, one file each: a file imports its library at the top, so one that is missing is noticed by name."""

"""One file a verb: `generate.py` holds the function `generate`. A new file is a new verb."""

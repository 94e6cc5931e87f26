"""The frontier engine: read `decode.py` first, then `frontier.py`."""

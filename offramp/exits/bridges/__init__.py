"""Bridges, one a file: from an exit's hidden state to what the shared norm and head read."""

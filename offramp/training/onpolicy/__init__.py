"""Exits trained on what they hear in use: the model's own text, with the state that a propagation leaves behind."""

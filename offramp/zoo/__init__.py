"""The bundled twins, a tiny Transformer and a tiny Mamba-2, and all it takes to make them again.

Read `corpus` first: it builds the training text from `stdlib_text` (code), `facts` and `stories` (questions).
"""

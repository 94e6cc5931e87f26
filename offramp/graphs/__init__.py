"""Decoding steps that a CUDA graph can hold: fixed buffers and shapes, and nothing that Python decides on the way."""

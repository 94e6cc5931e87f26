"""Kernels for the CPU in C, and what runs them: a program of steps, over all threads."""

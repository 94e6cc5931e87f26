"""Sweeps over gates, bridges, propagations and policies on one or more models, and their report."""

"""Propagations, one a file: what deeper layers receive for a token that left early."""

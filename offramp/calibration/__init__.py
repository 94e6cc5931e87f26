"""Thresholds that keep a stated risk: tuned on some documents, tested on others, with a guarantee."""

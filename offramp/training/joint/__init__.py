"""Backbones trained to be left early, after LayerSkip (arXiv 2404.16710): layer dropout and a loss at every exit."""

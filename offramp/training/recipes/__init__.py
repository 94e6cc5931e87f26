"""Recipes, one a file: what `offramp train --recipe NAME` trains, and how."""

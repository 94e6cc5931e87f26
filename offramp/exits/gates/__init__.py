"""Gates, one a file: what decides, in a bottleneck, that the deeper blocks would not change the answer."""

"""Documents from disk: text, JSON Lines, files of token ids."""

"""Documents from disk: text, JSON Lines, JSON, CSV, parquet, data sets of the hub, files of token ids.

`reading` gives them as texts, `documents` as token ids for training, `split` cuts them into parts. What is wrong is
named with its file, line and field.
"""

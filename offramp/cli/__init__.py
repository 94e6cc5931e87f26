"""The command line. `verbs/` has one file a verb; the rest is what they share. Read `app.py` first."""

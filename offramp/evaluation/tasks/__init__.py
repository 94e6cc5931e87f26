"""Tasks, one file each, found by its name: what a file of questions says, what is asked, what an answer is worth."""

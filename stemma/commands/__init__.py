"""What `stemma` can be told beside running a model: a file for each group of commands."""

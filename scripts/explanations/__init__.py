"""Where a classifier looked: attribution maps, their cases and their sanity checks."""

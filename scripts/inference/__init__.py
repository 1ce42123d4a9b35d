"""One patient: from files and a click to a grade."""

"""What every image and weight was made from, also by other programs, and that no test uses training subjects."""

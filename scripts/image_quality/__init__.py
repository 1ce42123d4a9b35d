"""How close a synthetic set is to real images: distances, coverage and diversity, and what readers can tell."""

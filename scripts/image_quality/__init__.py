"""How near a synthetic set comes to real images: distances, coverage and diversity, with floors."""

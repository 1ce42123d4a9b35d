"""From volumes to lesion-centered patches and lists of them, with masks made where there are none."""

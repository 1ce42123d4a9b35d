"""From volumes to lesion-centered patches and lists of them, with masks by a model where there are none."""

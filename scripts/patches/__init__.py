"""From volumes and pictures to patches, around a lesion or whole, and lists of them, with masks by a model."""

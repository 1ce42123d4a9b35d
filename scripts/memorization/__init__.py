"""The audit: whether synthetic images copy the images that a generator was trained on."""

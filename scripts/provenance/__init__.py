"""The guards of provenance: what every image and weight was made of, and that nobody tests on what was trained on."""

"""The guards of provenance: what every image and weight was made from, and that no test uses training subjects."""

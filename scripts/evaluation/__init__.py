"""What the classifiers answer, alone and as an ensemble, and how the setups compare."""

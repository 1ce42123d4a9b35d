"""How sure a number is: measures, intervals, paired tests and power."""

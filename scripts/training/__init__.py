"""What the trainings of generator and classifier share: their data, random changes, processes, resuming, curves."""

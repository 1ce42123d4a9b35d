"""What the trainings of generator and classifier share: resuming, curves, early stopping, averaged weights."""

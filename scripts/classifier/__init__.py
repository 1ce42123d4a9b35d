"""The network that predicts the grade: backbones, data, loss and augmentation."""

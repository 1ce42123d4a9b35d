"""The network that tells the grade: backbones, data, loss and augmentation."""

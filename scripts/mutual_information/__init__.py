"""The regularizer: mutual information of an image and its estimate, in the inferer and the loss."""

"""What makes this folder a MONAI bundle that other programs use."""

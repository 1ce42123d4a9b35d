"""Speed beside stock MONAI, and other measurements: each module is a command."""

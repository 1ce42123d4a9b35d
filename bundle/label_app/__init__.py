"""The MONAI Label app of this bundle, which runs in an environment of its own (`make label-env`)."""

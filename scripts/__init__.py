"""The runtime Python that the configs name: one idea a file."""

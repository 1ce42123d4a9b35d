"""The files of one patient: reading, checks, corrections, resampling, names of modalities and mask codes."""

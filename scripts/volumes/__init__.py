"""The files of one patient: read, checked, corrected, resampled, their names and mask codes understood."""

"""DICOM in and out: a study's series to the NIfTI files of a patient, and an answer to objects for an archive."""

"""Studies from disk: DICOM, NIfTI and folders of slices, through the geometry gate."""

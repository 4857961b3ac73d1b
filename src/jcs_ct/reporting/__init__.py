"""From a Diagnosis to files: report page, JSON, NIfTI."""

"""Studies from a PACS and results back to it, over DICOMweb (PS3.18); needs the extra ``jcs-ct[pacs]``."""

"""Manifests of studies as data sets that other tools read: NIfTI pairs, nnU-Net's raw data sets, DICOM and SEG."""

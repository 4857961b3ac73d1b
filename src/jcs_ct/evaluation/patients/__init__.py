"""Whose verdict is right: the patient rule against its threshold, and calibration."""

"""Procedural chest CT with exact lesion and lung masks."""

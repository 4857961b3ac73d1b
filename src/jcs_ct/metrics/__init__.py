"""Metrics, exactly as defined in docs/reference."""

"""Do activation maps point at the lesions."""

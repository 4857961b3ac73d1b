"""Data sets: manifests, slices, augmentation and image mixing."""

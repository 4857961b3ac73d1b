"""A study is read: a verdict by the paper's rule (III-C), then lesions, burden and densities."""

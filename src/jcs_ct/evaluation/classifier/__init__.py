"""Does a classifier find disease: by source, across sources, and what else it may look at."""

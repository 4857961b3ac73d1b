"""The networks: classifier, segmenter and their parts."""

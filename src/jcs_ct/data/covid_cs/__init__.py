"""COVID-CS as it is published: features, lists, annotations."""

"""How long a study takes, beside the same networks run the plain way."""

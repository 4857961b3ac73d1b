"""Training slices changed at random: geometry and grey levels, mixing, pasted and painted lesions."""

"""Training loops, losses, schedules and their configuration."""

"""Where the time of a training step goes: measured by part, and predicted from its work."""

"""One model over several devices: tables split, MLPs replicated, an all-to-all in between."""

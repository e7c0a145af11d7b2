"""`train`, `evaluate` and `predict`: any model of the course from the shell, with one loop."""

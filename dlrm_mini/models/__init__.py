"""The models of the course, one idea a module. Each maps a `Batch` to predictions (B,)."""

"""Sessions in web frameworks: one module each, which needs its framework installed."""

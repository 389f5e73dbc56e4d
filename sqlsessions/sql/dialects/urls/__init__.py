"""What the options in a URL mean to each driver: one module per database."""

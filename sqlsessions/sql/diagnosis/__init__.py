"""What the command line reports about a database."""

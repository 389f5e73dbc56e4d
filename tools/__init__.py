"""What looks at this repository: how the package is built, and its drawing."""

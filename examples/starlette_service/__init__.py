"""An example: log in, keep notes in the session, see and end your sessions, log out."""

"""The engine that the integrations of web frameworks share."""

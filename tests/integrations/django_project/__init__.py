"""A Django project whose sessions are tested."""

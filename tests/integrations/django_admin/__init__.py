"""A Django project with sessions in its admin."""

"""Logout by an OpenID provider."""

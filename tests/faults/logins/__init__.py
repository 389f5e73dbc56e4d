"""Logins and logouts of browsers that poll, in two processes of two workers each."""

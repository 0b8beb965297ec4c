"""A Django project whose webhooks are part of its own transactions."""

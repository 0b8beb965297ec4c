"""A FastAPI application whose webhooks are part of its own transactions."""

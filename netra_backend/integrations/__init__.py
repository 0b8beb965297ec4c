"""Guests: what fits Netra to the frameworks around it. None is imported before it is asked for."""

"""Machines, disks, processes and people that misbehave."""

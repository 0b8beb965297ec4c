"""The acceptance suite of the original report: the given floor. The evidence is in the other folders."""

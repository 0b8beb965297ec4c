"""For the tests of whoever builds on Netra: a clock to turn by hand, chance that repeats, and misbehaving peers."""

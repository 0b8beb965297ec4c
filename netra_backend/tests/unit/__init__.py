"""Tests of one piece each, without processes or the network."""

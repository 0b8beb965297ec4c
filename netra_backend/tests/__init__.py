"""The tests of Netra. They stand outside the layers and outside the wheel."""

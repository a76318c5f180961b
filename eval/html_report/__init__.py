"""The report of a protocol's run as one HTML file that asks for nothing from anywhere."""

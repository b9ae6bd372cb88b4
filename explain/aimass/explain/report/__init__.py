"""The report of a model: one HTML file that opens without the network, for people who were not there."""

"""Who watches what is served: new versions, drift, faults, and what is done about them."""

"""Every wire of the house, and all that two peers must agree on bit for bit."""

"""How a Nexus process starts, feeds and ends its children."""

"""May this machine draft now, and if not, why and until when. Pure."""

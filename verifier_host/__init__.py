"""The operator's host: HTTP front and engine worker."""

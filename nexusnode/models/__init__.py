"""Draft models on disk: catalogue, download, headers, whether they fit."""

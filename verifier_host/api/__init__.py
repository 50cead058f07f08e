"""OpenAI's HTTP shape over a `Backend`."""

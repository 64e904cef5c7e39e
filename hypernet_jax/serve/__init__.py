"""The page with a slider: what it shows, and the server that it lives in."""

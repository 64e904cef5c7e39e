"""The web page with sliders, and its server."""

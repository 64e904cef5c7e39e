"""The `hypernet-jax` command."""

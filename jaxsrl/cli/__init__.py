"""What the command line takes, read by tyro; nothing here imports jax before a command runs."""

"""What a policy can do, measured: `evaluate.py` is the way in, README.md says what each number means."""

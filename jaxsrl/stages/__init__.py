"""What a stage is made of before its first step."""

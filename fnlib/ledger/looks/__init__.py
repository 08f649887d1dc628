"""What is held, and what differs between two looks."""

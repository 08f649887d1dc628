"""What authors run to build the course from its lessons and its content; learners and the wheel need none of it."""

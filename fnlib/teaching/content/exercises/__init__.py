"""The exercises, one file a lesson; `fnlib.teaching.exercises` says what an exercise is and loads these files."""

"""What teachers write: questions, misconceptions and the museum as TOML; exercises, pictures and the museum's loops as Python."""

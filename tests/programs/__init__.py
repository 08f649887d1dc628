"""Public training programs under the doctor: what strangers wrote, run as they wrote it."""

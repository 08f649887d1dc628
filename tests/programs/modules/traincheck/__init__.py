"""Stand-in for TrainCheck's package: its clean programs call two of its functions, which do nothing here."""


def annotate_stage(stage: str) -> None:
    """Accept the name of a stage."""

"""The loops are material for the tests of museum, ledger and doctor: pytest must not import them by itself."""

collect_ignore_glob = ["*/*.py"]

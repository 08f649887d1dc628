"""Train models of public libraries with stock PyTorch and with fnlib, and compare every bit.

    python -m tests.real_models                # all of them; makes an environment for it the first time
    python -m tests.real_models timm bert      # those whose name contains "timm" or "bert"

Nothing is downloaded but the libraries: the models are small and their weights random. Each takes
three steps of SGD and three of Adam on both sides; all of them take 20 minutes of one core. The
environment is in build/real_models/.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools import torch_source
from tools.say import ROOT, Stop, say

HERE = Path(__file__).parent
VENV = ROOT / "build" / "real_models" / "venv"
REQUIREMENTS = HERE / "requirements.txt"


def environment() -> str:
    """Make the environment unless it's there, and return its Python."""
    folder = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
    python, stamp = VENV / folder, VENV / "requirements.txt"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return str(python)
    say(f"Installing libraries of models into {VENV.relative_to(ROOT)} (once; some minutes) ...")
    subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    options = torch_source.pip_options(str(python))
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *options]
    if subprocess.run([*pip, "-r", str(REQUIREMENTS)]).returncode:
        raise Stop("pip could not install the libraries: the lines above say why.")
    stamp.write_text(wanted, encoding="utf-8")
    return str(python)


def main(words: list[str]) -> int:
    try:
        python = environment()
    except Stop as stop:
        print(stop, file=sys.stderr)
        return 1
    run = [python, "-W", "ignore", "-m", "tests.real_models.run", *words]
    return subprocess.run(run, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

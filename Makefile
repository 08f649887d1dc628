# Each command also runs without make, on any system: python tools/kit.py lab
PYTHON ?= $(shell command -v python3 || command -v python)
COMMANDS = lab test quick bench site student offline

help:
	@echo "make lab      open the lessons in JupyterLab       (PORT=8899 for another port, CUDA=1 for the CUDA build)"
	@echo "make test     every test there is, notebooks included"
	@echo "make quick    the tests of fnlib, the ledger and the doctor, without those that take long"
	@echo "make bench    whole training steps, stock and fnlib side by side"
	@echo "make site     run every complete lesson and write the site to build/site/"
	@echo "make student  a folder of the course without answers to build/student/, for a JupyterHub or a branch"
	@echo "make offline  a folder that installs with the network cut (PLATFORM=windows, macos or linux for another system)"

$(COMMANDS):
	@if [ -z "$(PYTHON)" ]; then echo "There is no Python on this machine: install 3.11 to 3.14 from https://www.python.org/downloads/" >&2; exit 1; fi
	@"$(PYTHON)" tools/kit.py $@

.PHONY: help $(COMMANDS)

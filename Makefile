# Two commands on a fresh machine: `make demo` and `make test`. Both make the environment when it is missing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help demo test lint bench readme docs container coverage clean

help:
	@echo "make demo      anonymize examples/in to examples/out"
	@echo "make test      run the tests (set DEID_DATA to use research data too)"
	@echo "make lint      ruff and mypy"
	@echo "make bench     speed and peak memory of each method and of whole runs, against deface where it is; dlib against its port"
	@echo "make readme    measure every method on DEID_DATA and put the tables into docs/ (an hour)"
	@echo "make docs      the documentation site and the manual pages, in site/"
	@echo "make container the steps of the Dockerfile in a plain folder, and a run as in a container (Linux, as root)"
	@echo "make coverage  the tests with a coverage report"
	@echo "make clean     remove the environment and everything that was made"

$(READY): setup.cfg setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,heif]'
	# Other people's weights, into the user's cache. Without them the detector cnn searches instead of centerface, and
	# there is no --recogniser sface.
	$(BIN)/deid models fetch || echo "deid runs without the weights that could not be fetched"
	@touch $@

demo: $(READY)
	$(BIN)/deid anonymize --method cleanir --angle 180 --overwrite examples/in examples/out
	@echo "Look at examples/out, beside examples/in."

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/ports.py
	$(BIN)/python benchmarks/against.py

# Goes on where it stopped: a method is measured again when its weights have changed. TABLE for cleanir at all angles.
RESULTS ?= results
SIZE   ?= --limit 200
TABLE  ?= --limit 200
readme: $(READY)
	$(BIN)/deid evaluate table fdeid "$(DEID_DATA)/lfw/images" --split "$(DEID_DATA)/lfw/people.csv" \
	  --out $(RESULTS)/fdeid --seed 1 --resume $(SIZE) || test $$? = 1
	$(BIN)/deid evaluate readme $(RESULTS)/fdeid/report.json deidcli/evaluation/measured.json
	$(BIN)/deid evaluate readme deidcli/evaluation/measured.json docs/results.md
	$(BIN)/deid evaluate table cleanir-2 "$(DEID_DATA)/lfw/images" --split "$(DEID_DATA)/lfw/people.csv" \
	  --out $(RESULTS)/cleanir-2 --detector hog --seed 1 --resume $(TABLE) || test $$? = 1
	$(BIN)/deid evaluate readme $(RESULTS)/cleanir-2/report.json docs/evaluation.md

# The site, from docs/, the commands and the docstrings; site/ can be copied to any web server. man/ has manual pages.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt '.[docs]'
	$(BIN)/mkdocs build --quiet
	$(BIN)/python docs/man.py site/man

container:
	.ci/container build/container

coverage: $(READY)
	$(BIN)/python -m pytest --cov --cov-report=term

clean:
	rm -rf $(VENV) examples/out results site build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage .hypothesis

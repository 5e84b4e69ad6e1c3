# rtvc: `make demo` and `make test` do all set-up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test check lint types imports gpu-checks fmt serve accept bench-stt bench-diagnosis bench-overhead bench-loadtest bench-plan bench-scaling bench-check sbom audit bench-hostile bench-soak image image-steps bench-drain clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make the virtual environment (quick when it is already there)

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rtvc needs Python 3.11 or newer; set PYTHON=python3.11")'
	@echo "setting up .venv (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## three simulated speakers talk to the server for 20 s; verdict and report
	@$(BIN)/rtvc demo

serve: setup ## the reference server on the self-test model
	@$(BIN)/rtvc serve --model selftest

test: setup ## all tests
	@$(BIN)/python -m pytest

check: lint types imports test ## lint, types, import layers, tests

lint: setup ## ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## mypy, strict
	@$(BIN)/mypy

imports: setup ## the layers of docs/architecture.md
	@$(BIN)/lint-imports

accept: setup ## the long measurements; figures under reports/acceptance/
	@mkdir -p reports/acceptance
	@$(BIN)/python -m tests.acceptance.edges --out reports/acceptance/edges.json
	@$(BIN)/python -m tests.acceptance.echo --out reports/acceptance/echo.json
	@$(BIN)/python -m tests.acceptance.load --out reports/acceptance/load.json
	@$(BIN)/python -m tests.acceptance.endpointing --out reports/acceptance/endpointing.json

gpu-checks: setup ## everything that needs a CUDA device; goes on where it was cut off
	@$(BIN)/python -m tests.acceptance.gpu --out reports/gpu
	@$(BIN)/python -m tests.acceptance.bench_gpu --out reports/gpu

bench-stt: setup ## speakers held, strategy by strategy; resumes; under reports/stt/
	@mkdir -p reports/stt
	@$(BIN)/python -m tests.acceptance.stt --out reports/stt
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.acceptance.engine --out reports/stt/engine.json
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.acceptance.raw_model --out reports/stt/raw_model.json
	@$(BIN)/python -m tests.acceptance.allocator --out reports/stt/allocator.json
	@$(BIN)/python -m tests.acceptance.shapes --out reports/stt/shapes.json

bench-diagnosis: setup ## right causes named, for simulated servers and for faults on demand; resumes
	@$(BIN)/python -m tests.acceptance.diagnosis --simulated --live --out reports/diagnosis

bench-overhead: setup ## what the instruments cost, on and off in turn; resumes
	@$(BIN)/python -m tests.acceptance.overhead --out reports/overhead

bench-loadtest: setup ## what the load test's figures are worth, its own cost, and capacities; resumes
	@$(BIN)/python -m tests.acceptance.exactness --out reports/exactness
	@$(BIN)/python -m tests.acceptance.knee --out reports/knee
	@$(BIN)/python -m tests.acceptance.generator --out reports/generator
	@$(BIN)/python -m tests.acceptance.capacity --out reports/capacity

bench-plan: setup ## what rtvc plan predicts, beside what a load test finds; resumes
	@mkdir -p reports/plan
	@$(BIN)/python -m tests.acceptance.prediction --out reports/plan

bench-scaling: setup ## days of a fleet from 2 to 60 instances, simulated; under reports/autoscaling/
	@$(BIN)/python -m tests.acceptance.autoscaling --out reports/autoscaling

bench-check: setup ## does this machine's bench still say what its committed baseline says?
	@$(BIN)/python -m tests.acceptance.bench_check

sbom: setup ## what is installed, as CycloneDX 1.5: build/sbom.json
	@$(BIN)/python -m tools.sbom build/sbom.json

audit: setup ## installed as pinned, and nothing known to be wrong (exit 3: nobody could be asked)
	@$(BIN)/python -m tools.audit

bench-hostile: setup ## a million hostile messages, ten thousand callers who vanish; resumes
	@$(BIN)/python -m tests.acceptance.fuzz --out reports/hostile
	@$(BIN)/python -m tests.acceptance.vanish --out reports/hostile

CAPACITY ?= reports/capacity/selftest-shared
bench-soak: setup ## an hour at 80 % of CAPACITY (a number, or a search's run): does anything creep up?
	@$(BIN)/python -m tests.acceptance.soak --capacity $(CAPACITY) --out reports/soak

TARGET ?= cpu
image: ## the container image of TARGET, cpu or cuda
	@docker build -f infra/docker/Dockerfile --target $(TARGET) -t rtvc:$(TARGET) .

image-steps: setup ## the steps of that image in a folder of their own; no container engine needed
	@$(BIN)/python -m tools.image_steps --target $(TARGET) --serve --out reports/image/steps-$(TARGET).md

bench-drain: setup ## one of two servers behind HAProxy is stopped, again and again: what do callers feel?
	@$(BIN)/python -m tests.acceptance.drain --out reports/drain

fmt: setup ## format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format --quiet .

clean: ## remove what set-up and builds left
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# make demo         the simulated arm does what it is told (ARGS="--episodes 5 --headless")
# make test         every test (ARGS="-k robot" chooses)
# make coverage     every test, and which lines no test runs
# make lint         ruff (rules and format) and mypy
# make release-check  builds, checks and installs what would be released (needs PyPI)
# make faults       every fault of docs/safety.md over real processes, 20 times (ARGS="--times 5 --rows stopped"); hours
# make train-demo   record demonstrations in simulation and train the demo's policy from them
# make clean        remove what building and testing left; the environment .venv stays (make clean-venv)
#
# The first call makes .venv with everything in it; later calls find it ready.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
RUN ?= runs/demo
EPISODES ?= 500
MISHAPS ?= 200
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.pi0_ros_ready

.PHONY: help demo test faults coverage lint release-check train-demo clean clean-venv
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

$(READY): setup.py pyproject.toml $(wildcard requirements/*)
	requirements/bootstrap.sh $(VENV) $(PYTHON)
	@touch $@

demo: $(READY)
	$(BIN)/pi0 demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

coverage: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term:skip-covered $(ARGS)

release-check: $(READY)
	$(BIN)/python tools/release_check.py

faults: $(READY)
	$(BIN)/python test/faults/suite.py --out faults.md $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/typecheck.py

# Every step goes on where it was interrupted.
train-demo: $(READY) $(RUN)/dataset
	$(BIN)/pi0 stats $(RUN)/dataset
	$(BIN)/pi0 pretrain-demo --stats $(RUN)/dataset --out $(RUN)/see
	$(BIN)/pi0 train $(RUN)/dataset --config config/train/demo.yaml --init $(RUN)/see --out $(RUN)/policy --resume $(ARGS)
	@echo "try it: $(BIN)/pi0 demo --checkpoint $(RUN)/policy/checkpoint"

$(RUN)/dataset: | $(READY)
	$(BIN)/pi0 record-demo $(RUN)/bags --episodes $(EPISODES)
	$(BIN)/pi0 record-demo $(RUN)/bags --episodes $$(($(EPISODES) + $(MISHAPS))) --mishaps
	$(BIN)/pi0 convert $(RUN)/bags $@ --robot demo_arm

clean:
	rm -rf build dist install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pi0_ros training test launch tools bench -name __pycache__ -prune -exec rm -rf {} +

clean-venv: clean
	rm -rf $(VENV)

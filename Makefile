# make demo         the simulated arm does what it is told (ARGS="--episodes 5 --headless")
# make test         every test (ARGS="-k robot" chooses)
# make test-kilted  the tests of nodes, monitor and launching on ROS 2 Kilted's wheels, in a small environment of its own
#                   (.venv-kilted, no torch: what needs it is skipped); test-kilted-short: two minutes of them, in CI
# make typecheck-humble  the nodes by types against ROS 2 Humble's rclpy (says which sources it needs)
# make coverage     every test, and which lines no test runs
# make lint         ruff (rules and format) and mypy
# make release-check  builds, checks and installs what would be released (needs PyPI)
# make faults       every fault of docs/safety.md over real processes, 20 times (ARGS="--times 5 --rows stopped"); hours;
#                   interrupted, it goes on where it was (faults.jsonl)
# make site         the documentation as a site in build/site, every link checked
# make train-demo   record demonstrations in simulation and train the demo's policy from them
# make clean        remove what building and testing left; the environment .venv stays (make clean-venv)
#
# The first call makes .venv with everything in it; later calls find it ready.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
RUN ?= runs/demo
EPISODES ?= 1400
TAKEOVERS ?= 750
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.pi0_ros_ready

.PHONY: help demo test test-kilted test-kilted-short typecheck-humble faults coverage lint release-check site train-demo clean clean-venv
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

KILTED ?= .venv-kilted
SHORT := messages command_output received message_definition plan_sender middleware node_parameters isolation arming
SHORT := $(SHORT) monitor_node

test-kilted: $(KILTED)/.ready
	$(KILTED)/bin/python -m pytest -n $(WORKERS) test/nodes test/monitor test/launching $(ARGS)

test-kilted-short: $(KILTED)/.ready
	$(KILTED)/bin/python -m pytest -n $(WORKERS) $(SHORT:%=test/nodes/test_%.py) test/cli/test_operator_commands.py $(ARGS)

$(KILTED)/.ready: setup.py requirements/ros-kilted.txt requirements/constraints-kilted.txt
	[ -x $(KILTED)/bin/python ] || $(PYTHON) -m venv $(KILTED)
	$(KILTED)/bin/python -m pip install -q -r requirements/ros-kilted.txt
	$(KILTED)/bin/python -m pip install -q -e . pytest pytest-xdist pytest-rerunfailures
	@touch $@

typecheck-humble: $(READY)
	$(BIN)/python tools/typecheck_humble.py $(ARGS)

coverage: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term:skip-covered $(ARGS)

release-check: $(READY)
	$(BIN)/python tools/release_check.py

faults: $(READY)
	$(BIN)/python test/faults/suite.py --out faults.md $(ARGS)

site: $(READY)
	$(BIN)/python -c 'import material' 2>/dev/null || $(BIN)/python -m pip install -q mkdocs-material
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/typecheck.py

# From nothing to the demo's weights; every step goes on where it was interrupted. Demonstrations, weights that can see, a
# first policy; then it drives, the demonstrator takes over, and it learns from this; and the same once more. The mean of the
# last two weights is better than either.
train-demo: $(READY) $(RUN)/corrections_2
	$(BIN)/pi0 train $(RUN)/corrections_2 --config config/train/demo_corrections.yaml --init $(RUN)/second/checkpoint \
		--out $(RUN)/policy --resume $(ARGS)
	rm -rf $(RUN)/mean
	$(BIN)/python tools/average.py $(RUN)/second/checkpoint $(RUN)/policy/checkpoint $(RUN)/mean
	@echo "try it: $(BIN)/pi0 demo --checkpoint $(RUN)/mean"

$(RUN)/see: | $(READY)
	$(BIN)/pi0 pretrain-demo --out $@

$(RUN)/dataset: | $(READY)
	$(BIN)/pi0 record-demo $(RUN)/bags --episodes $(EPISODES) --workers 2
	$(BIN)/pi0 convert $(RUN)/bags $@ --robot demo_arm --workers 2

$(RUN)/first/.done: | $(RUN)/see $(RUN)/dataset
	$(BIN)/pi0 stats $(RUN)/dataset
	$(BIN)/pi0 train $(RUN)/dataset --config config/train/demo.yaml --init $(RUN)/see --out $(RUN)/first --resume
	touch $@

# The statistics stay those of the demonstrations: the weights belong to them.
$(RUN)/corrections_1: | $(RUN)/first/.done
	$(BIN)/pi0 record-demo $(RUN)/takeovers_1 --episodes $(TAKEOVERS) --seed 150000 --workers 2 \
		--takeover $(RUN)/first/checkpoint
	$(BIN)/pi0 convert $(RUN)/bags $(RUN)/takeovers_1 $@ --robot demo_arm --workers 2
	cp $(RUN)/dataset/meta/pi0_norm_stats.json $@/meta/

$(RUN)/second/.done: | $(RUN)/corrections_1
	$(BIN)/pi0 train $(RUN)/corrections_1 --config config/train/demo_corrections.yaml --init $(RUN)/first/checkpoint \
		--out $(RUN)/second --resume
	touch $@

$(RUN)/corrections_2: | $(RUN)/second/.done
	$(BIN)/pi0 record-demo $(RUN)/takeovers_2 --episodes $(TAKEOVERS) --seed 160000 --workers 2 \
		--takeover $(RUN)/second/checkpoint
	$(BIN)/pi0 convert $(RUN)/bags $(RUN)/takeovers_2 $@ --robot demo_arm --workers 2
	cp $(RUN)/dataset/meta/pi0_norm_stats.json $@/meta/

clean:
	rm -rf build dist install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find pi0_ros training test launch tools bench -name __pycache__ -prune -exec rm -rf {} +

clean-venv: clean
	rm -rf $(VENV) $(KILTED)

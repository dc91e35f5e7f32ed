# make demo                      a whole rollout on the practice Mac
# make demo GATEWAY=openclaw     the same with the real OpenClaw instead of the stand-in, and back again
# make demo LAYOUT=stock         the same on a Mac as installers leave it: discover writes its parameters
# make demo FAULT=canary-5xx     the same with one fault: it must end in a fail, so make ends with an error
# make test [ARGS="-k plan"]     every test but those of minutes (make test-long) and of OpenClaw (make test-openclaw)
# make flakes ARGS="-k reload"   the same tests TIMES times, 20 unless said, and how often they failed
# make lint | format | lock | bench | clean
BIN = .venv/bin
RUN_DEMO = $(BIN)/rollout lab demo $(if $(LAYOUT),--layout $(LAYOUT)) $(if $(GATEWAY),--gateway $(GATEWAY)) \
	$(if $(LAYOUT)$(GATEWAY),--and-back) $(if $(FAULT),--fault $(FAULT))
SCRIPTS = $(wildcard runbook_lib/onmac/*.sh runbook_lib/lab/*.sh runbook_lib/lab/templates/*.sh)
# Not ours: variables that the library sets around a script (SC2154, SC2034), node's own ${…} in quotes (SC2016).
SHELLCHECK = $(BIN)/shellcheck --shell=sh --exclude=SC2154,SC2034,SC2016
NBSTRIPOUT = $(BIN)/nbstripout --keep-id --extra-keys "metadata.papermill"
CACHES = .pytest_cache .mypy_cache .ruff_cache .hypothesis build

.PHONY: demo test test-long test-openclaw flakes lint format lock bench clean setup
.DEFAULT_GOAL = demo

demo: setup
	@$(RUN_DEMO)

# A file's tests stay together: they share a practice Mac.
QUICK = -m "not openclaw and not long" -n logical --maxprocesses 4 --dist loadfile

test: setup
	@$(BIN)/python -m pytest $(QUICK) $(ARGS)

test-long: setup
	@$(BIN)/python -m pytest -m "long and not openclaw" $(ARGS)

test-openclaw: setup
	@$(BIN)/python -m pytest -m openclaw $(ARGS)

TIMES = 20
flakes: setup
	@$(BIN)/python tests/flakes.py $(TIMES) $(QUICK) $(ARGS)

lint: setup
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(NBSTRIPOUT) --verify notebooks/*.ipynb
	@$(SHELLCHECK) $(SCRIPTS)

format: setup
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .
	@$(NBSTRIPOUT) notebooks/*.ipynb

# The environment is made from the lock, so uv comes with setup where it can be had.
lock: setup
	@$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-emit-find-links \
		--generate-hashes --all-extras pyproject.toml -o requirements.lock --custom-compile-command "make lock"

bench: setup
	@$(BIN)/python tests/bench_kernels.py
	@$(BIN)/python tests/bench_rollout.py
	@$(BIN)/python tests/bench_accesslog.py
	@$(BIN)/python tests/bench_evidence.py

# Runs are records: outputs/ stays, and so does .venv.
clean:
	@[ ! -x $(BIN)/rollout ] || $(BIN)/rollout lab down
	@rm -rf .lab $(CACHES) *.egg-info
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

setup:
	@sh runbook_lib/lab/setup.sh

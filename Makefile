# Every target sets up what it needs first and skips what is done already.
PYTHON ?= python3
ARGS ?=
RUN := .venv/bin/python
LOCAL := ACTIVITIES_BACKEND=memory

.DEFAULT_GOAL := help
.PHONY: help run chat gateway up test test-long bench services services-stop lint audit format proto openapi messages requirements clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: .venv/run.stamp ## Run the product in one process, in memory (ARGS="--http HOST:PORT --grpc HOST:PORT")
	@$(RUN) manage.py serve --local $(ARGS)

chat: .venv/run.stamp ## Type the bot's commands in this terminal, in memory
	@$(RUN) manage.py chat --local $(ARGS)

gateway: .venv/gateway.stamp ## Run the gateway, HTTP and JSON to the gRPC of `make run` (ARGS="--address HOST:PORT --upstream HOST:PORT")
	@$(RUN) manage.py gateway $(ARGS)

up: services .venv/dev.stamp .venv/gateway.stamp ## Run the whole topology natively until Ctrl-C, on the services
	@exec $(RUN) scripts/up.py $(ARGS)

test: .venv/dev.stamp .venv/gateway.stamp ## Run every proof once, on real services that it starts and stops
	$(PYTHON) scripts/services.py run $(RUN) -m pytest $(ARGS)

test-long: .venv/dev.stamp .venv/gateway.stamp ## The same proofs at full count: kill loops, soaks, bursts
	TEST_LONG=1 $(PYTHON) scripts/services.py run $(RUN) -m pytest $(ARGS)

bench: .venv/dev.stamp ## Run the benchmarks against their baselines (ARGS="get create stream size", BENCH_JSON=FILE)
	$(PYTHON) scripts/services.py run $(RUN) -m benchmarks $(ARGS)

services: ## Start PostgreSQL, pgbouncer, Redis and Kafka on free loopback ports; see .services/env
	@$(PYTHON) scripts/services.py start

services-stop: ## Stop them and remove their data
	@$(PYTHON) scripts/services.py stop

lint: .venv/dev.stamp ## Check style, types, imports, migrations and generated files
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(LOCAL) .venv/bin/mypy .
	$(LOCAL) .venv/bin/lint-imports
	$(LOCAL) $(RUN) manage.py makemigrations --check --dry-run
	$(RUN) scripts/generate.py --check proto openapi
	$(RUN) scripts/messages.py --check

# --strict: what the service does not know has not been looked up, which is no good news.
audit: .venv/dev.stamp ## Look up the pinned packages in the published advisories; needs a network that reaches them
	.venv/bin/pip-audit --strict --progress-spinner off --require-hashes --disable-pip \
		-r requirements.txt -r requirements-dev.txt

format: .venv/dev.stamp ## Format the code and mend what can be mended
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

proto: .venv/dev.stamp ## Make the protobuf and gRPC code again
	$(RUN) scripts/generate.py proto

openapi: .venv/dev.stamp ## Make docs/openapi.yaml again
	$(RUN) scripts/generate.py openapi

messages: .venv/dev.stamp ## Take the bot's texts from the code into its translations again
	$(RUN) scripts/messages.py

requirements: .venv/dev.stamp ## Compile the pinned lists again, with the newest versions that fit
	.venv/bin/uv pip compile -q --upgrade --no-emit-find-links --no-header --generate-hashes --universal \
		--python-version 3.11 requirements.in -o requirements.txt
	.venv/bin/uv pip compile -q --upgrade --no-emit-find-links --no-header --generate-hashes --universal \
		--python-version 3.11 requirements-dev.in -o requirements-dev.txt
	.venv/bin/uv pip compile -q --upgrade --no-emit-find-links --no-header --generate-hashes --universal \
		--python-version 3.11 requirements-gateway.in -o requirements-gateway.txt

clean: ## Remove what was made here: .venv, .kafka and caches
	rm -rf .venv .kafka .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/run.stamp: requirements.txt scripts/set_up.py
	@$(PYTHON) scripts/set_up.py requirements.txt
	@touch $@

.venv/dev.stamp: .venv/run.stamp requirements-dev.txt
	@$(PYTHON) scripts/set_up.py requirements-dev.txt
	@touch $@

.venv/gateway.stamp: .venv/run.stamp requirements-gateway.txt
	@$(PYTHON) scripts/set_up.py requirements-gateway.txt
	@touch $@

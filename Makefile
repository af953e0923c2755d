# make run    install what is missing and start Orthanc with the gateway (DICOM_PORT, HTTP_PORT, HL7_PORT)
# make demo   send sample images to it and list what Orthanc has
# make test   install the test tools and run all tests
.DEFAULT_GOAL := help
.PHONY: help install run demo test lint bench clean

help:
	@echo "make install   Debian packages, .venv and the project, where missing"
	@echo "make run       start Orthanc with the gateway; Ctrl-C stops both (DICOM_PORT, HTTP_PORT, HL7_PORT)"
	@echo "make demo      send sample images to the running gateway, list Orthanc's studies"
	@echo "make test      run all tests, against real Orthanc and DCMTK"
	@echo "make lint      ruff, mypy, import-linter"
	@echo "make bench     compare with Orthanc's built-in SCP and DCMTK's servers (half an hour)"
	@echo "make clean     remove .venv and caches; var/ (the images) stays"

install:
	@scripts/install.sh

run:
	@scripts/run.sh

demo:
	@scripts/demo.sh

test:
	@scripts/install.sh test
	@.venv/bin/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint:
	@scripts/install.sh test
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

bench:
	@scripts/install.sh test
	@PROXY=$(PROXY) .venv/bin/python -m bench $(BENCH_ARGS)

clean:
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +

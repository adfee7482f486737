# Two commands for a new user: `make demo` and `make test`. `make clean` removes what they made.

PYTHON ?= python3
VENV := .venv
BIN := $(abspath $(VENV))/bin
UPSTREAM := .venv-upstream
UPSTREAM_BIN := $(abspath $(UPSTREAM))/bin
DEMO := work_dirs/demo
FCN := configs/fcn/fcn_r18-small_1xb16-600_context-scenes-128x128.py
DMNET := configs/dmnet/dmnet_r18-small_1xb16-600_context-scenes-128x128.py

.DEFAULT_GOAL := help
.PHONY: help demo explore test test-slow test-gpu benchmark-gpu test-triton test-zoo test-hostile test-browser test-upstream docs pictures constraints lint clean

help:
	@echo 'make demo           install; train DMNet and an FCN on the CPU; test both; draw them'
	@echo 'make explore        serve a page about the model that make demo trained; PORT=7861 for another port'
	@echo 'make test           install; run the test suite but for its slow part'
	@echo 'make test-slow      install; run the slow part of the test suite'
	@echo 'make test-gpu       install; run on a GPU the tests that can run on one'
	@echo 'make benchmark-gpu  install; measure on a GPU losses, labels and training steps'
	@echo 'make test-triton    install; prove the GPU kernels without a GPU, in many cases'
	@echo 'make test-zoo       install; train, validate and test every config, shrunken, on toy data'
	@echo 'make test-hostile   install; load mutated checkpoints for ten minutes'
	@echo 'make test-browser   install; test the page in Chromium, which has to be there'
	@echo 'make test-upstream  compile mmcv; run the test suite on the upstream packages'
	@echo 'make docs           install; build the pages of docs/ as a site, docs/_build/index.html'
	@echo 'make pictures       install; train the models of the pages of methods, and draw these anew'
	@echo 'make constraints    pin what is not pinned yet of all that the two stacks install'
	@echo 'make lint           install; check the code style'
	@echo 'make clean          remove what these made'

# What is built from source is built with the pinned setuptools, too; older versions of pip read the
# first, newer ones the second.
PINNED_BUILDS := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

$(VENV)/installed: setup.py pyproject.toml constraints.txt
	@echo 'Install into $(VENV), which takes minutes, most of them for downloads'
	@$(PYTHON) -m venv $(VENV)
	@$(PINNED_BUILDS) $(BIN)/python -m pip install -q -c constraints.txt -e '.[onedl,test,dev]'
	touch $@

# A step says what it does and shows its lines of progress. Its whole log is in a file, whose end is
# shown where the step fails.
define step
@echo; echo '$(1), log: $(DEMO)/$(2).log'; mkdir -p $(DEMO)
@$(3) 2>&1 | tee $(DEMO)/$(2).log | sed -un 's/.* - \(Iter(.*\)/\1/p' || { tail -n 30 $(DEMO)/$(2).log; exit 1; }
endef

# mim starts `python` by name: the environment's comes first.
demo: export PATH := $(BIN):$(PATH)
# Threads that wait would otherwise spin, which costs a busy machine several times the training.
demo: export OMP_WAIT_POLICY := passive
# A step fails with its first command, not only with the last one of its pipe.
demo: SHELL := bash
demo: .SHELLFLAGS := -o pipefail -c
demo: $(VENV)/installed
	$(call step,1/5 Train an FCN on drawn scenes,fcn-train,mim train mmseg $(FCN) --gpus 0 --work-dir $(DEMO)/fcn)
	$(call step,2/5 Train DMNet on the same scenes,dmnet-train,mim train mmseg $(DMNET) --gpus 0 --work-dir $(DEMO)/dmnet)
	$(call step,3/5 Test the FCN on 200 other scenes,fcn-test,mim test mmseg $(FCN) --gpus 0 --work-dir $(DEMO)/fcn \
		--checkpoint $(DEMO)/fcn/iter_600.pth --out $(DEMO)/fcn/predictions)
	$(call step,4/5 Test DMNet on these,dmnet-test,mim test mmseg $(DMNET) --gpus 0 --work-dir $(DEMO)/dmnet \
		--checkpoint $(DEMO)/dmnet/iter_600.pth --out $(DEMO)/dmnet/predictions)
	@echo; echo '5/5 Compare the predictions: mIoU in percent of all classes and of groups of classes'
	@python tools/compare_predictions.py $(DMNET) --out $(DEMO)/scenes.png --force \
		--predictions FCN=$(DEMO)/fcn/predictions DMNet=$(DEMO)/dmnet/predictions
	@echo
	@echo 'The context classes are kinds of ground that only a distant cue tells apart.'
	@echo
	@echo 'Next:'
	@echo '  $(DEMO)/scenes.png   see scenes, truth and both predictions'
	@echo '  make explore                click a pixel: what did DMNet use there?'
	@echo '  docs/your_own_data.md       train on your own images: one command writes the config'
	@echo '  docs/get_started.md         add the methods to your own project'

$(DEMO)/dmnet/iter_600.pth:
	$(MAKE) demo

PORT ?= 7860

explore: $(VENV)/installed $(DEMO)/dmnet/iter_600.pth
	$(BIN)/python tools/explore.py $(DMNET) $(DEMO)/dmnet/iter_600.pth --port $(PORT)

# Two processes of one thread each: most tests are too small to share a tensor among cores.
test test-slow test-gpu test-triton test-zoo test-hostile test-browser test-upstream: export OMP_NUM_THREADS = 1

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2

# The wheel in an environment of its own, trainings on toy data, runs that are killed and resumed.
test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m slow

# Without a CUDA device this fails, in one line.
test-gpu: $(VENV)/installed
	$(BIN)/python -m pytest --cuda

# One table, in at most eight minutes.
benchmark-gpu: $(VENV)/installed
	$(BIN)/python tools/benchmark_gpu.py

test-triton: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m triton tests/ops/test_triton.py

test-zoo: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m zoo

# SEED gives other files; a failure names the file, and the seed that it is made from.
SEED ?= 0
MINUTES ?= 10

test-hostile: $(VENV)/installed
	$(BIN)/python -m tests.checkpoints.hostile --seed $(SEED) --minutes $(MINUTES)

$(VENV)/installed-browser: $(VENV)/installed
	$(BIN)/python -m pip install -c constraints.txt -e '.[browser]'
	touch $@

# Debian's browser and its driver: apt-get install chromium chromium-driver
test-browser: $(VENV)/installed-browser
	$(BIN)/python -m pytest -m browser tests/browser

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install -c constraints.txt -e '.[docs]'
	touch $@

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build

# Needs Graphviz. With seed 2 ACNet finds what tells one ground from another.
pictures: export OMP_WAIT_POLICY := passive
pictures: $(VENV)/installed
	$(BIN)/python tools/study.py --rows methods cac-dmnet-long --seeds 0 --out work_dirs/pictures
	$(BIN)/python tools/study.py --rows acnet --seeds 2 --out work_dirs/pictures
	$(BIN)/python docs/draw_pictures.py work_dirs/pictures

# A version changes where its line is deleted first; then the tests have to pass with it.
UV := .venv-uv/bin/uv
PIN := $(UV) pip compile --universal --python-version 3.10 --no-annotate --no-emit-package pip \
	--custom-compile-command 'make constraints' --quiet

constraints:
	$(PYTHON) -m venv .venv-uv
	.venv-uv/bin/python -m pip install uv
	$(PIN) setup.py --extra onedl --extra dev --extra docs --extra browser -o constraints.txt
	echo ninja | $(PIN) - setup.py --extra openmmlab --extra test -o constraints-upstream.txt

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mmcv 2.1.0 builds against the PyTorch that is installed already, with a setuptools that still has
# pkg_resources.
$(UPSTREAM)/installed: setup.py pyproject.toml constraints-upstream.txt
	$(PYTHON) -m venv $(UPSTREAM)
	$(UPSTREAM_BIN)/python -m pip install -c constraints-upstream.txt torch setuptools ninja numpy
	MMCV_WITH_OPS=1 $(UPSTREAM_BIN)/python -m pip install -c constraints-upstream.txt --no-build-isolation mmcv
	$(UPSTREAM_BIN)/python -m pip install -c constraints-upstream.txt --no-build-isolation -e '.[openmmlab,test]'
	touch $@

test-upstream: $(UPSTREAM)/installed
	$(UPSTREAM_BIN)/python -m pytest -n 2 -m 'not zoo and not browser and not triton'

clean:
	rm -rf $(VENV) $(UPSTREAM) .venv-uv work_dirs docs/_build build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

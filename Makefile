# The same commands work without make: python -m dlrm_mini COMMAND (see --help).
PYTHON ?= python3
COURSE = $(PYTHON) -m dlrm_mini

.DEFAULT_GOAL := help
.PHONY: help run lab test setup torchrec check data notebooks edit exercises site slides measure bench

help:  ## this list
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

run:  ## set everything up, execute every chapter, write build/html, print the results
	@$(COURSE) run $(NB)

lab:  ## open JupyterLab on chapter 00
	@$(COURSE) lab

test:  ## set up what is missing and run all tests
	@$(COURSE) test

setup:  ## make the environment and stop
	@$(COURSE) setup

torchrec:  ## install TorchRec, the engine of chapter 15, and try it
	@$(COURSE) torchrec

check:  ## say line by line whether the environment is right
	@$(COURSE) check

data:  ## say which data is there, from where, verified or not
	@$(COURSE) data

notebooks:  ## re-execute all chapters and rewrite them (one: NB=02)
	@$(COURSE) notebooks $(NB)

edit:  ## edit one chapter as text and write it back: NB=02
	@$(COURSE) edit $(NB)

exercises:  ## run the solutions and make the students' versions (one chapter: NB=02)
	@$(COURSE) exercises $(NB)

site:  ## build the course as a static site, in build/site
	@$(COURSE) site

slides:  ## make a talk of one chapter, in build/slides: NB=05
	@$(COURSE) slides $(NB)

measure:  ## record what a chapter cannot hold: WHAT=ratings-ladder
	@$(COURSE) measure $(WHAT)

bench:  ## measure this project beside its peers, into build/bench.json
	@$(COURSE) bench

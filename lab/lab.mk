# The lab: VMs with real NIC drivers on emulated hardware. Included by the Makefile;
# lab/README.md explains. Several checkouts can share one cache: LAB_CACHE=/some/folder.
export LAB_CACHE ?= $(CURDIR)/lab/.cache
# VMs at a time in lab-test: they wait for their devices most of the time.
LAB_JOBS ?= 4

.PHONY: lab
lab: ## Fetch and build all the lab needs (idempotent; about 0.4 GB once)
	@lab/build.sh >/dev/null

.PHONY: lab-test
lab-test: lab ## Run every lab test in its VMs
	@lab/vm test -j $(LAB_JOBS) ./...

.PHONY: lab-run
lab-run: export LAB_COMMAND = $(value CMD)
lab-run: lab ## Run a command in a VM: make lab-run CMD='ethtool -i eth1' [PROFILE=hub]
	@lab/vm run -p $(or $(PROFILE),nics) "$$LAB_COMMAND"

.PHONY: lab-clean
lab-clean: ## Remove the lab's cache
	rm -rf -- '$(LAB_CACHE)'

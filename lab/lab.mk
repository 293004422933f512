# The lab: VMs with real NIC drivers on emulated hardware. Included by the Makefile;
# lab/README.md explains. Several checkouts can share one cache: LAB_CACHE=/some/folder.
export LAB_CACHE ?= $(CURDIR)/lab/.cache

.PHONY: lab
lab: ## Fetch and build all the lab needs (idempotent; about 0.4 GB once)
	@lab/build.sh >/dev/null

.PHONY: lab-test
lab-test: lab ## Run every lab test in its VMs
	@lab/vm test ./...

.PHONY: lab-run
lab-run: lab ## Run a command in a VM: make lab-run CMD='ethtool -i eth1' [PROFILE=hub]
	@lab/vm run -p $(or $(PROFILE),nics) '$(CMD)'

.PHONY: lab-clean
lab-clean: ## Remove the lab's cache
	rm -rf -- '$(LAB_CACHE)'

# The lab: VMs with real NIC drivers on emulated hardware. Included by the Makefile;
# lab/README.md explains. Several checkouts can share one cache: LAB_CACHE=/some/folder.
export LAB_CACHE ?= $(CURDIR)/lab/.cache
# Jobs at a time in lab-test: their VMs wait for devices most of the time (lab/README.md, Jobs).
LAB_JOBS ?= 5

.PHONY: lab
lab: ## Fetch and build all the lab needs (idempotent; about 0.4 GB once)
	@lab/build.sh >/dev/null

.PHONY: lab-test
lab-test: lab ## Run every lab test in its VMs
	@lab/vm test -j $(LAB_JOBS) ./...

.PHONY: lab-test-every
lab-test-every: lab ## Faults, kills and power cuts at every write, of which lab-test takes a part (an hour or two)
	go test -tags lab -exec '$(CURDIR)/lab/vm exec -p hub' ./tuning/settings -run '^(TestVFsKilled|TestTenKnobsKilled|TestTenKnobsEachWriteFails)$$' -v -timeout 2h -args -every
	go test -tags lab -exec '$(CURDIR)/lab/vm exec -p numa' ./tuning/settings -run '^(TestQueuesKilled|TestRulesKilled|TestTenKnobsEachWriteFails|TestTenKnobsUnplugged)$$' -v -timeout 2h -args -every
	go test -tags labhost ./tuning/settings -run '^(TestVFsPowerCut|TestTenKnobsPowerCut)$$' -v -timeout 2h -args -every

# What Linux 6.12, the lab's usual kernel, is too old for.
LAB_SID_TESTS ?= TestNAPI|TestNAPIKept|TestHeaderSplit|TestContextHashFields

.PHONY: lab-test-sid
lab-test-sid: export LAB_KERNEL = sid
lab-test-sid: lab ## Run the lab tests of what is young on Debian sid's kernel (no part of make test)
	@lab/vm test -p nics -v -run '^($(LAB_SID_TESTS))$$' ./tuning/settings
	@lab/vm test -p nics -v -run '^TestProbeJudgesTheTable$$' ./xdpcheck

.PHONY: lab-run
lab-run: export LAB_COMMAND = $(value CMD)
lab-run: lab ## Run a command in a VM: make lab-run CMD='ethtool -i eth1' [PROFILE=hub]
	@lab/vm run -p $(or $(PROFILE),nics) "$$LAB_COMMAND"

.PHONY: lab-clean
lab-clean: ## Remove the lab's cache
	rm -rf -- '$(LAB_CACHE)'

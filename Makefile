# podwire: `make` lists what there is to do. Every target does its own set-up (hack/setup.sh).
.DEFAULT_GOAL := help
.PHONY: help fmt lint test test-faults demo bench bench-cluster bench-profile launcher tree image lock clean
.PHONY: manifests kind-up kind-down test-node test-kubernetes test-image test-machine

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## two nodes whose pods talk, then one closely, all of namespaces; nothing is left
	@hack/setup.sh demo hack/demo.sh

test: ## the whole suite; ARGS='-k bridge -x' is passed to pytest
	@hack/setup.sh test .venv/bin/python -m pytest $(ARGS)

test-faults: ## the whole fault campaign; ARGS='--plugin both --json counts.json'
	@hack/setup.sh test hack/sandbox.sh .venv/bin/python hack/faults.py $(ARGS)

test-node: ## two nodes as kind has them: the DaemonSet, pods by containerd, upgrades; ARGS='--rounds 10' SUITE=forky
	@hack/setup.sh test hack/sandbox.sh .venv/bin/python hack/test_node.py $(ARGS)

test-kubernetes: ## podwire on a cluster by kubeadm, built of Debian's source: 8 minutes the first time
	@hack/setup.sh test hack/kubernetes.sh build/kubernetes
	@hack/setup.sh test hack/sandbox.sh .venv/bin/python hack/test_kubernetes.py $(ARGS)

test-image: ## the Dockerfile's image, built with podman on a base by debootstrap, on such nodes; ARGS='--only full'
	@hack/setup.sh test hack/image/local.sh build/image
	@hack/setup.sh test hack/sandbox.sh .venv/bin/python hack/test_node.py --rounds 1 \
		--image build/image/podwire.tar $(ARGS)

test-machine: ## the suite on Debian's own kernel in a virtual machine; ARCH=arm64 ARGS='tests/netns -k ptp'
	@hack/setup.sh machine .venv/bin/python hack/machine

lint: ## ruff, mypy --strict, import contracts, shellcheck where there is one
	@hack/setup.sh lint hack/lint.sh

fmt: ## format, and repair what ruff can repair
	@hack/setup.sh fmt hack/fmt.sh

bench: ## ADD and DEL beside the reference plugins; BENCH_CASES='bridge ptp' SAMPLES=30
	@hack/setup.sh bench hack/sandbox.sh .venv/bin/python hack/bench

bench-cluster: ## a cluster of 100 to 5,000 nodes beside `ip -batch`, and packets; SAMPLES=30
	@hack/setup.sh bench-cluster hack/sandbox.sh .venv/bin/python hack/bench_cluster

launcher: ## build/launcher/podwire, static; CC=aarch64-linux-gnu-gcc PYTHON_TREE=/opt/podwire/current
	@hack/setup.sh launcher hack/launcher.sh build/launcher/podwire

tree: ## build/tree, the relocatable Python with podwire that `podwire install` puts on a node
	@hack/setup.sh tree .venv/bin/python hack/tree build/tree

image: ## podwire's image by docker, podman or buildah; IMAGE=name BASE=other PLATFORM=linux/arm64
	@hack/image/build.sh $(ARGS)

lock: ## hack/image/*.lock anew: what the image's Python packages are, to the byte
	@mkdir -p build && hack/image/lock.sh

bench-profile: ## where an ADD's and a DEL's time goes, stage by stage, beside the kernel's floor
	@hack/setup.sh bench hack/sandbox.sh .venv/bin/python hack/bench/profile.py

manifests: ## manifests/podwire.yaml and uninstall.yaml anew, of their kustomizations
	@hack/setup.sh manifests hack/manifests.sh

kind-up: ## a kind cluster with podwire, tried; ARGS='--ip-family dual --proxy-mode nftables -o json'
	@hack/kind-up.sh $(ARGS)

kind-down: ## the cluster of kind-up, gone; ARGS='--name NAME'
	@hack/kind-up.sh --down $(ARGS)

clean: ## remove what the targets made: .venv, build and the tools' caches
	@rm -rf .venv build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find cni_plugin ipam tests hack -name __pycache__ -type d -prune -exec rm -rf {} +

"""A cluster by the real kubeadm, kubelet and API server, on nodes as kind has them."""

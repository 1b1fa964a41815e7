# Packages of the distribution: the system's own, never replaced by ours.

MISSING_PACKAGES=()

find_missing_packages() { :; }
install_packages() { :; }

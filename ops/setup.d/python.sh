# The virtual environment of the tests.

find_missing_python() { :; }
install_python() { :; }

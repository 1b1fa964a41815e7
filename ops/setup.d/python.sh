# The virtual environment of the tests, `.venv` in the checkout. It counts as there only once the file
# that names its contents is written last; whatever else lies in its place is made anew.

VENV=$CHECKOUT/.venv
REQUIREMENTS=$OPS/requirements-tests.txt
VENV_CONTENTS=$VENV/.installed
PIP_SECONDS=900

find_missing_python() {
    if test -x /usr/bin/python3 && ! system_python -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then
        by_hand "Python 3.9 or newer as /usr/bin/python3: the SDK needs it"
    fi
    { test -x "$VENV/bin/python" && cmp -s "$REQUIREMENTS" "$VENV_CONTENTS"; } ||
        MISSING+=(".venv with the packages of ops/requirements-tests.txt: the SDK and other clients that tests run")
}

install_python() {
    ! cmp -s "$REQUIREMENTS" "$VENV_CONTENTS" || return 0
    say "making .venv"
    rm -rf "$VENV"
    SCRATCH+=("$VENV")
    quietly /usr/bin/python3 -m venv "$VENV"
    quietly timeout "$PIP_SECONDS" "$VENV/bin/python" -m pip install --disable-pip-version-check -r "$REQUIREMENTS" ||
        fail "pip could not install ops/requirements-tests.txt; run this again when the package index answers"
    cp "$REQUIREMENTS" "$VENV_CONTENTS"
    keep "$VENV"
}

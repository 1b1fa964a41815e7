# The packages that the console's tests need, in `console/node_modules`. They count as there only once the
# copy of the lock file is written last.

CONSOLE_MODULES=$CHECKOUT/console/node_modules
CONSOLE_LOCK=$CHECKOUT/console/package-lock.json
CONSOLE_CONTENTS=$CONSOLE_MODULES/.tests
NPM_SECONDS=600

find_missing_console() {
    cmp -s "$CONSOLE_LOCK" "$CONSOLE_CONTENTS" ||
        MISSING+=("console/node_modules with the packages of console/package-lock.json: the console's compiler and its tests")
}

install_console() {
    ! cmp -s "$CONSOLE_LOCK" "$CONSOLE_CONTENTS" || return 0
    say "installing the console's packages"
    (cd "$CHECKOUT/console" && quietly timeout "$NPM_SECONDS" npm ci --ignore-scripts --prefer-offline --no-audit --no-fund) ||
        fail "npm could not install console/package-lock.json; run this again when the package registry answers"
    touch "$CONSOLE_MODULES/.installed"
    cp "$CONSOLE_LOCK" "$CONSOLE_CONTENTS"
}

# Words to the person who runs this, and scratch space that never outlives the run.

# What is to be installed, one line each, with the reason.
MISSING=()
# What is missing and is not ours to install.
BY_HAND=()
by_hand() { BY_HAND+=("$1"); }

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

SCRATCH=()
drop_scratch() { [ ${#SCRATCH[@]} = 0 ] || rm -rf -- "${SCRATCH[@]}"; }
trap drop_scratch EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

keep() {
    local path left=()
    for path in "${SCRATCH[@]}"; do [ "$path" = "$1" ] || left+=("$path"); done
    SCRATCH=("${left[@]}")
}

# scratch VARIABLE PARENT: a new directory in PARENT that is removed however the run ends.
scratch() {
    local made
    mkdir -p "$2"
    made=$(mktemp -d "$2/.setup.XXXXXX")
    chmod 755 "$made"
    SCRATCH+=("$made")
    printf -v "$1" %s "$made"
}

# quietly COMMAND…: its output is shown only if it fails.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ $status = 0 ] || cat "$log" >&2
    rm -f "$log"
    return $status
}

# Two runs at once would fight over the same directories.
one_at_a_time() {
    if [ "$(id -u)" = 0 ]; then
        mkdir -p "$PREFIX"
        exec 8<"$PREFIX"
    else
        exec 8<"$OPS"
    fi
    flock -w 600 8 || fail "another ops/setup has been running for ten minutes; try again when it has ended"
}

# runsc and CRIU in builds that are newer than Debian 12's own, in PREFIX, away from the system's libc.
# Each is unpacked beside its place, proved to start, and only then renamed into it.

RUNSC_OLDEST=20240729
CRIU_OLDEST=4.2
MISSING_RUNTIMES=()

find_missing_runtimes() {
    runsc_is_good "$PREFIX/bin/runsc" || {
        MISSING_RUNTIMES+=(runsc)
        MISSING+=("runsc ≥ $RUNSC_OLDEST in $PREFIX/bin: gVisor, the sandbox for code that nobody has read")
    }
    criu_is_good "$PREFIX/bin/criu" || {
        MISSING_RUNTIMES+=(criu)
        MISSING+=("CRIU ≥ $CRIU_OLDEST in $PREFIX/bin: puts runc's workspaces to sleep and wakes them (older ones fail on new kernels)")
    }
}

install_runtimes() {
    local runtime
    for runtime in "${MISSING_RUNTIMES[@]}"; do
        say "fetching $runtime"
        "install_$runtime"
    done
}

# Snapshots are tied to the build of runsc that made them: the same one on every Debian, where it is kept.
install_runsc() {
    local new suite
    for suite in $(suites bookworm-backports sid); do
        scratch new "$PREFIX"
        unpack_from_suite "$suite" runsc alone "$new" || continue
        runsc_is_good "$new/usr/bin/runsc" || continue
        put_in_place "$new" runsc "$(runsc_version "$new/usr/bin/runsc")"
        ln -s "../$PLACE/usr/bin/runsc" "$PREFIX/bin/.runsc.new"
        mv -T "$PREFIX/bin/.runsc.new" "$PREFIX/bin/runsc"
        return
    done
    fail "no suite of this mirror has a runsc ≥ $RUNSC_OLDEST"
}

install_criu() {
    local new suite
    for suite in $(suites sid); do
        scratch new "$PREFIX"
        unpack_from_suite "$suite" criu whole "$new" || continue
        mkdir -p "$new/usr/lib/x86_64-linux-gnu/criu"
        criu_wrapper "$new" >"$new/criu"
        chmod 755 "$new/criu"
        criu_is_good "$new/criu" || continue
        put_in_place "$new" criu "$(criu_version "$new/criu")"
        criu_wrapper "$PREFIX/$PLACE" >"$PREFIX/bin/.criu.new"
        chmod 755 "$PREFIX/bin/.criu.new"
        mv -T "$PREFIX/bin/.criu.new" "$PREFIX/bin/criu"
        return
    done
    fail "no suite of this mirror has a CRIU ≥ $CRIU_OLDEST"
}

# The libraries of that CRIU are newer than the system's, so its own ld.so starts it. CRIU never execs
# itself, and LD_LIBRARY_PATH would leak into the iptables and sh that it does exec. Without a directory
# of plugins, here an empty one, it would load those of a system's CRIU of another version, or refuse to dump.
criu_wrapper() {
    local lib=$1/usr/lib/x86_64-linux-gnu
    printf '#!/bin/sh\nCRIU_LIBS_DIR=%s exec %s --library-path %s %s "$@"\n' \
        "$lib/criu" "$lib/ld-linux-x86-64.so.2" "$lib" "$1/usr/sbin/criu"
}

# put_in_place NEW NAME VERSION: renames NEW into PREFIX and says in PLACE, relative to PREFIX, where it is.
# An older version beside it stays: what runs from it goes on.
put_in_place() {
    PLACE=lib/$2-$3
    mkdir -p "$PREFIX"/{bin,lib}
    if [ -e "$PREFIX/$PLACE" ]; then
        local old
        scratch old "$PREFIX"
        mv "$PREFIX/$PLACE" "$old/"
    fi
    mv -T "$1" "$PREFIX/$PLACE"
}

runsc_version() { "$1" --version 2>/dev/null | sed -nE '1s/^runsc version (.*[^0-9])?([0-9]{8}).*/\2/p'; }
runsc_is_good() {
    local version
    [ -x "$1" ] && version=$(runsc_version "$1") && [ -n "$version" ] && [ "$version" -ge $RUNSC_OLDEST ]
}

criu_version() { "$1" --version 2>/dev/null | sed -nE 's/^Version: ([0-9.]+).*/\1/p'; }
criu_is_good() {
    local version
    [ -x "$1" ] && version=$(criu_version "$1") && [ -n "$version" ] &&
        [ "$(printf '%s\n' $CRIU_OLDEST "$version" | sort -V | head -n 1)" = $CRIU_OLDEST ]
}

# suites DEBIAN…: what to look in; Ubuntu has one name for its newest.
suites() { if [ "$(distribution)" = ubuntu ]; then echo devel; else echo "$@"; fi; }

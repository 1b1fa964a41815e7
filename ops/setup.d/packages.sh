# Packages of the distribution: the system's own, never replaced by ours.

MISSING_PACKAGES=()

# No linker is among them: rustc brings its own lld and uses it on this target by itself (since 1.90).
find_missing_packages() {
    has cargo || by_hand "Rust (rustup fetches the version of rust-toolchain.toml): builds fleeks"

    { has cc && test -e /usr/include/stdio.h; } || need gcc "compiles the C parts of TLS and compression"
    test -e /usr/lib/x86_64-linux-gnu/libc.a || need libc6-dev "links PID 1 of every workspace statically"
    has make || need make "the Makefile, and cmake behind it"
    has cmake || need cmake "builds a compression library of the proxy"

    has runc || need runc "runs workspaces"
    has nft || need nftables "limits what a workspace can reach"
    has iptables || need iptables "CRIU holds the connections of a sleeping workspace with it"
    has ip || need iproute2 "a network of its own for each workspace"
    test -s /etc/ssl/certs/ca-certificates.crt || need ca-certificates "TLS from inside a workspace"

    # Workspaces see the host's /usr, so an interpreter elsewhere (pyenv, nvm) is of no use to them.
    test -x /usr/bin/python3 || need python3 "Python in workspaces"
    system_python -m pip --version || need python3-pip "pip in workspaces"
    system_python -c 'import ensurepip, venv' || need python3-venv "virtual environments in workspaces"
    test -x /usr/bin/node || need nodejs "Node in workspaces"
    test -e /usr/bin/npm || need npm "npm in workspaces"

    if [ "$2" = yes ]; then
        test -e /usr/bin/go || need golang-go "Go in workspaces"
        test -e /usr/bin/cargo || need cargo "Rust in workspaces"
        test -e /usr/bin/javac || need default-jdk-headless "Java in workspaces"
        test -e /usr/bin/php || need php-cli "PHP in workspaces"
        test -e /usr/bin/ruby || need ruby "Ruby in workspaces"
    fi

    [ "$1" = yes ] || return 0
    has curl || need curl "tests fetch with it as a customer would"
    test -e /usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 || need libfaketime "tests set a clock of their own with it"
    has mkfs.ext4 || need e2fsprogs "tests fill a small disk of their own"
    has docker-registry || need docker-registry "tests pull images from private ones; its service stays off"
    is_static /bin/busybox || need busybox-static "tests make a small image of it"
    has zstd || need zstd "tests compress layers with it"
    has mmdebstrap || need mmdebstrap "makes the Debian root of the templates"
    has chromium || need chromium "tests use the console in it"
    has redis-server || need redis-server "tests start private ones; its service stays off"
}

install_packages() {
    [ ${#MISSING_PACKAGES[@]} != 0 ] || return 0
    say "installing ${MISSING_PACKAGES[*]}"
    apt_update
    keep_services_off
    apt install "${MISSING_PACKAGES[@]}" || fail "apt-get could not install ${MISSING_PACKAGES[*]}"
    case " ${MISSING_PACKAGES[*]} " in
        *" redis-server "*) quietly update-rc.d redis-server disable || true ;;
    esac
    case " ${MISSING_PACKAGES[*]} " in
        *" docker-registry "*) quietly update-rc.d docker-registry disable || true ;;
    esac
    [ "$KEPT_OFF" = no ] || rm -f "$POLICY"
}

# need PACKAGE REASON
need() {
    MISSING_PACKAGES+=("$1")
    MISSING+=("$1: $2")
}

# Programs of the system, also those that a plain user's PATH leaves out.
has() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }

is_static() { test -x "$1" && ! grep -q /ld-linux "$1"; }

system_python() { test -x /usr/bin/python3 && (cd / && /usr/bin/python3 "$@") >/dev/null 2>&1; }

# Debian starts what it installs unless this file says no. An administrator's own one is left alone.
POLICY=/usr/sbin/policy-rc.d
KEPT_OFF=no
keep_services_off() {
    [ ! -e "$POLICY" ] || return 0
    SCRATCH+=("$POLICY")
    KEPT_OFF=yes
    printf '#!/bin/sh\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

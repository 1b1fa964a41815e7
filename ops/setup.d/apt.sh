# apt, used in two ways: packages for the system, and .debs of another suite that are only unpacked.
# The mirror is always the machine's own; no address is written here.

export DEBIAN_FRONTEND=noninteractive
APT_LOCK_SECONDS=300
APT_SECONDS=1200

# Everything that could stop us half way is asked here, before the first change.
refuse_unless_installable() {
    local by_hand="Install the above by hand, then run this again. Nothing was changed."
    [ ${#BY_HAND[@]} = 0 ] || fail "this script does not install: ${BY_HAND[*]}. $by_hand"
    [ $((${#MISSING_PACKAGES[@]} + ${#MISSING_RUNTIMES[@]})) != 0 ] || return 0
    [ "$(uname -s)/$(uname -m)" = Linux/x86_64 ] ||
        fail "only Linux on x86_64 is supported, this is $(uname -s) on $(uname -m). Nothing was changed."
    { has apt-get && has dpkg-deb; } ||
        fail "no apt here, and this script knows only Debian and its relatives. $by_hand"
    [ "$(id -u)" = 0 ] || fail "installing needs root. Nothing was changed."
    [ ${#MISSING_RUNTIMES[@]} = 0 ] || {
        [ -n "$(distribution_mirror)" ] ||
            fail "no $(distribution) mirror in /etc/apt to take ${MISSING_RUNTIMES[*]} from. $by_hand"
        archive_keyring >/dev/null
    }
}

apt() {
    quietly timeout "$APT_SECONDS" apt-get -q -y -o DPkg::Lock::Timeout="$APT_LOCK_SECONDS" \
        -o Acquire::Retries=3 -o APT::Install-Recommends=false "$@"
}

# `apt-get update` does not wait for the lock of the lists by itself.
apt_update() {
    local until=$((SECONDS + APT_LOCK_SECONDS))
    until apt update; do
        [ $SECONDS -lt $until ] || fail "apt-get update kept failing for $APT_LOCK_SECONDS s"
        say "apt-get update failed; trying again"
        sleep 5
    done
}

distribution() {
    (. /etc/os-release && case " $ID ${ID_LIKE:-} " in
        *" ubuntu "*) echo ubuntu ;;
        *) echo debian ;;
    esac)
}

# The first archive of the distribution itself that apt is configured with, in either format of its
# sources: `URIs:` of deb822, or `deb [options] URI suite …`. Security archives lack other suites.
distribution_mirror() {
    cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        awk -v want="/$(distribution)/?$" '
            { sub(/#.*/, "") }
            tolower($1) == "uris:" { for (i = 2; i <= NF; i++) offer($i) }
            $1 == "deb" { i = 2; if ($i ~ /^\[/) { while ($i !~ /\]$/ && i < NF) i++; i++ } offer($i) }
            function offer(uri) { if (uri ~ want && !found) { found = 1; print uri } }'
}

# unpack_from_suite SUITE PACKAGE whole|alone DIRECTORY: unpacks PACKAGE, and with `whole` everything
# that it depends on down to libc, into DIRECTORY. Lists and archives are private to this call: the
# system's own lists, pins and packages are neither read nor changed.
unpack_from_suite() {
    local suite=$1 package=$2 closure=$3 into=$4 private options deb
    scratch private "${TMPDIR:-/tmp}"
    mkdir -p "$private"/{lists,archives}/partial "$into"
    printf 'deb [signed-by=%s] %s %s main%s\n' "$(archive_keyring)" "$(distribution_mirror)" "$suite" \
        "$([ "$(distribution)" = ubuntu ] && echo ' universe')" >"$private/sources.list"
    options=(
        -o Dir::Etc::sourcelist="$private/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
        -o Dir::State::Lists="$private/lists" -o Dir::State::status=/dev/null
        -o Dir::Cache="$private" -o Dir::Cache::archives="$private/archives"
        -o APT::Sandbox::User=root -o APT::Keep-Downloaded-Packages=true
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
        -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
    )
    apt "${options[@]}" -o APT::Update::Error-Mode=any update || return 1
    if [ "$closure" = whole ]; then
        # With an empty status file apt knows nothing as installed, so it fetches the whole closure.
        apt "${options[@]}" install --download-only "$package" || return 1
    else
        (cd "$private/archives" && apt "${options[@]}" download "$package") || return 1
    fi
    for deb in "$private"/archives/*.deb; do
        dpkg-deb -x "$deb" "$into" || return 1
    done
}

archive_keyring() {
    local keyring
    for keyring in /usr/share/keyrings/"$(distribution)"-archive-keyring.{gpg,pgp}; do
        [ ! -f "$keyring" ] || { echo "$keyring"; return; }
    done
    fail "no archive keyring of $(distribution) in /usr/share/keyrings. Nothing was changed."
}

# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2034,SC2154
# Sourced by the build scripts of this directory, which set: here, sources, include, libraries.

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# [--sanitize] [DIRECTORY]; sets $sanitize and $dir
parse_arguments() {
    sanitize=
    dir=
    for arg; do
        case $arg in
        --sanitize) sanitize=yes ;;
        --help)
            echo "usage: ${0##*/} [--sanitize] [DIRECTORY]    (build/peers, with --sanitize build/peers-sanitize)"
            exit 0
            ;;
        -*)
            echo "${0##*/}: unknown option '$arg'" >&2
            exit 2
            ;;
        *)
            [ -z "$dir" ] || {
                echo "${0##*/}: more than one directory" >&2
                exit 2
            }
            dir=$arg
            ;;
        esac
    done
    [ -n "$dir" ] || dir=$here/../build/peers${sanitize:+-sanitize}
}

# Makes the directory, sets $dir to its full name and lets one build at a time into it.
enter_build_directory() {
    mkdir -p "$1" 2>/dev/null || fail "cannot make the directory $1"
    dir=$(cd "$1" && pwd)
    case $dir in *[[:space:]]*) fail "the directory's name must not contain blanks: $dir" ;; esac
    command -v "${CC:-cc}" >/dev/null || fail "no C compiler ('${CC:-cc}'): install gcc, or set CC"
    exec 9>"$dir/.lock" || fail "cannot write to $dir"
    flock -w 300 9 || fail "another build holds $dir"
}

# Is this program newer than every file it is made of?
up_to_date() {
    [ -x "$1" ] && [ -z "$(find "$here" -maxdepth 1 \( -name '*.[ch]' -o -name 'build*.sh' \) -newer "$1" | head -n 1)" ]
}

# Is this archive, by the key that apt is told to check it with, somebody else's than Debian's?
foreign_archive() {
    eval "$(apt-config shell main Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    {
        cat "$main" "$parts"/*.list 2>/dev/null | grep '^[[:space:]]*deb ' | grep -F "${1%/}" | grep -i 'signed-by='
        for file in "$parts"/*.sources; do
            [ ! -e "$file" ] || awk -v RS= -v base="${1%/}" 'index($0, base) && tolower($0) ~ /signed-by:/ { gsub("\n", " "); print }' "$file"
        done
    } | grep -v debian-archive | grep -q .
}

# The main Debian archive's mirrors that this machine's own apt uses, one a line. apt itself reads its sources, so
# their format does not matter. Where its lists are present they say which archive is Debian's; where they are not
# (fresh containers) name, component and key decide. Either way the archive keyring has the last word, below.
debian_mirrors() {
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(CODENAME)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -F'|' -v release="$codename" '$1 == "Debian" && $2 == "Debian" && $3 == release { print $4 }'
    apt-get -o Dir::State::lists="$dir/apt/empty" update --print-uris 2>/dev/null |
        awk -v release="$codename" -F"'" '
            match($2, "/dists/[^ ]*/main/binary-") {
                base = substr($2, 1, RSTART - 1); suite = substr($2, RSTART + 7); sub("/.*", "", suite)
                name = base; sub("/+$", "", name); sub(".*/", "", name)
                if ((suite == release || suite ~ /^(stable|oldstable|testing|unstable|sid)$/) && name ~ /debian/ &&
                    base !~ /security|backports|debug/) print base "/"
            }' |
        while read -r base; do foreign_archive "$base" || echo "$base"; done
}

# unpack_debian SUITE PACKAGE...: unpacks packages of another Debian release below the build directory; sets $unpacked.
unpack_debian() {
    suite=$1
    shift
    unpacked=$dir/$suite
    [ ! -e "$unpacked/.complete" ] || return 0
    # The normal build's copy serves the sanitizer's as well.
    if [ -e "$here/../build/peers/$suite/.complete" ]; then
        unpacked=$(cd "$here/../build/peers/$suite" && pwd)
        return 0
    fi
    command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
        fail "no suitable library is installed, and without apt none can be fetched"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$keyring" ] || fail "$keyring is missing: install debian-archive-keyring"
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

    rm -rf "$unpacked" "$dir/apt"
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/empty" "$dir/apt/cache/archives/partial" "$unpacked"
    mirrors=$(debian_mirrors | awk '!seen[$0]++')
    [ -n "$mirrors" ] || fail "apt's sources name no Debian mirror of '$codename' to take $* of $suite from (after 'apt-get update' it may be recognized)"

    apt_own="-o Dir::Etc::sourcelist=$dir/apt/sources.list -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o APT::Default-Release=
        -o Dir::State::lists=$dir/apt/lists -o Dir::Cache=$dir/apt/cache -o APT::Sandbox::User=
        -o Acquire::Languages=none -o Acquire::Retries=2"
    for mirror in $mirrors; do
        echo "deb [signed-by=$keyring] $mirror $suite main" >"$dir/apt/sources.list"
        if (
            cd "$dir/apt" && apt-get $apt_own update -qq --error-on=any && apt-get $apt_own download -qq "$@" &&
                for package in *.deb; do dpkg -x "$package" "$unpacked" || exit 1; done
        ) >"$dir/apt/log" 2>&1; then
            rm -rf "$dir/apt"
            touch "$unpacked/.complete"
            return 0
        fi
    done
    fail "cannot fetch $* of Debian $suite from apt's mirror: $(grep -m 1 '^E:' "$dir/apt/log" || echo "see $dir/apt/log")"
}

# compile PROGRAM: $sources with $include and $libraries
compile() {
    flags="-std=gnu11 -O2 -g -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes"
    [ -z "$sanitize" ] || flags="$flags -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    (cd "$here" && ${CC:-cc} $flags $include -o "$dir/$1.new" $sources $libraries 9>&-) ||
        fail "the compiler failed on $1 (above)"
    mv "$dir/$1.new" "$dir/$1"
    echo "built $dir/$1"
}

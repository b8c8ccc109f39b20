# shellcheck shell=bash
# What ./quickstart and ./check share: talk, long commands, and what building needs (packages, Rust).
# Sourced, with the repository's root as the current directory. Installs nothing that its caller did not announce.

# Where the builds go.
target=${CARGO_TARGET_DIR:-$PWD/target}

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# ---- long commands -------------------------------------------------------------------------------------------------
# Each runs in a process group of its own, so that a signal ends all of it: a compiler's children too.

job='' beat='' eye=''
# A command that succeeds once what is being waited for is not needed any more; set by who may be served otherwise.
enough=''

# long WHAT COMMAND...: runs the command; without a terminal a line every 30 s says that it still runs.
long() {
    local what=$1 code=0 begun=$SECONDS
    shift
    set -m
    "$@" </dev/null &
    job=$!
    if [ -n "$enough" ]; then
        { until "$enough"; do sleep 3; done && kill -TERM -- "-$job"; } 2>/dev/null &
        eye=$!
    fi
    if [ ! -t 1 ]; then
        while sleep 30; do say "... $what: $((SECONDS - begun)) s so far"; done &
        beat=$!
    fi
    set +m
    wait "$job" 2>/dev/null || code=$?
    job=''
    end_watchers
    return "$code"
}

# Ends a process group that was started above and waits for it.
end_group() {
    [ -n "$1" ] || return 0
    kill -TERM -- "-$1" 2>/dev/null
    wait "$1" 2>/dev/null
    return 0
}

end_watchers() {
    end_group "$beat"
    end_group "$eye"
    beat='' eye=''
}

end_long() {
    end_group "$job"
    job=''
    end_watchers
}

# ---- packages ------------------------------------------------------------------------------------------------------

compiles() { printf '#include <%s>\nint main(void) { return 0; }\n' "$2" | "$1" -x "$3" -o /dev/null - 2>/dev/null; }

# Packages that building herdgate lacks: a C compiler for SQLite and the cryptography; curl to try it.
build_packages() {
    compiles cc stdio.h c || printf 'gcc libc6-dev '
    have curl || printf 'curl '
    [ -e /etc/ssl/certs/ca-certificates.crt ] || ! have apt-get || printf 'ca-certificates '
}

# Packages that building herdgate-engine lacks: llama.cpp is C++, built with cmake; libclang reads its interface.
engine_packages() {
    compiles c++ vector c++ || printf 'g++ '
    have cmake || printf 'cmake '
    have make || have ninja || printf 'make '
    has_libclang || printf 'libclang-dev '
}

has_libclang() {
    local dir found=''
    for dir in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib /usr/lib64 /usr/local/lib; do
        if compgen -G "$dir/libclang.so*" >/dev/null || compgen -G "$dir/libclang-[0-9]*.so*" >/dev/null; then found=1; fi
    done
    # The library alone is not enough: the compiler's own headers come with the -dev package.
    [ -n "$found" ] && {
        compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' || compgen -G '/usr/lib/clang/*/include/stddef.h' ||
            compgen -G '/usr/local/lib/clang/*/include/stddef.h'
    } >/dev/null
}

# install_packages NAME...
install_packages() {
    [ $# -gt 0 ] || return 0
    local root=()
    have apt-get || die "missing: $* (Debian's names); install them with this system's package manager and start again"
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || die "installing packages needs root; run \`sudo apt-get install -y $*\` and start again"
        root=(sudo -n)
    fi
    long 'reading the package lists' "${root[@]}" apt-get -q update ||
        say 'the package lists cannot be read anew; trying with those that are here'
    long 'installing packages' "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
        -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@" ||
        die "the packages cannot be installed (the reason is above); install $* and start again"
}

# ---- Rust ----------------------------------------------------------------------------------------------------------

wanted_rust=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)

# new_enough VERSION: whether it is at least the pinned one.
new_enough() { [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$wanted_rust" "$1" | sort -V | head -n 1)" = "$wanted_rust" ]; }

has_rust() {
    have cargo && new_enough "$(RUSTUP_AUTO_INSTALL=0 rustc --version 2>/dev/null | cut -d' ' -f2)"
}

# What get_rust would do, in words; empty where Rust is here.
rust_plan() {
    has_rust && return
    if have rustup; then
        say "Rust $wanted_rust, with the rustup that is here"
    elif new_enough "$(candidate rustc)"; then
        say "Rust $(candidate rustc), the packages rustc and cargo"
    elif [ -n "$(candidate rustup)" ]; then
        say "Rust $wanted_rust, with the package rustup"
    else
        say "Rust $wanted_rust, with rustup from https://rustup.rs, into ${CARGO_HOME:-$HOME/.cargo}"
    fi
}

candidate() {
    have apt-cache || return 0
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9.]*[0-9]\).*/\1/p'
}

# get_rust: makes `cargo` and `rustc` of at least the pinned version callable.
get_rust() {
    has_rust && return
    if ! have rustup; then
        if new_enough "$(candidate rustc)"; then
            install_packages rustc cargo
        elif [ -n "$(candidate rustup)" ]; then
            install_packages rustup
        else
            rustup_from_its_site
        fi
        hash -r
    fi
    has_rust && return
    ! have rustup || RUSTUP_AUTO_INSTALL=0 long "installing Rust $wanted_rust" \
        rustup toolchain install "$wanted_rust" --profile minimal --no-self-update || use_newer_toolchain
    has_rust || die "Rust $wanted_rust or newer is needed and cannot be had from here; get it as https://rustup.rs says and start again"
}

rustup_from_its_site() {
    local script
    have curl || install_packages curl ca-certificates
    script=$(mktemp)
    if curl --proto '=https' --tlsv1.2 -fsSL --max-time 60 https://sh.rustup.rs -o "$script"; then
        long "installing Rust $wanted_rust" sh "$script" -y -q --profile minimal --default-toolchain "$wanted_rust" --no-modify-path ||
            say 'rustup could not be installed'
    fi
    rm -f "$script"
}

# The pinned toolchain cannot be had: a newer one that is installed is as good.
use_newer_toolchain() {
    local name
    for name in $(rustup toolchain list 2>/dev/null | cut -d' ' -f1); do
        if RUSTUP_TOOLCHAIN=$name has_rust; then
            export RUSTUP_TOOLCHAIN=$name
            say "using the installed toolchain $name instead of $wanted_rust"
            return
        fi
    done
}

case ":$PATH:" in
    *":${CARGO_HOME:-$HOME/.cargo}/bin:"*) ;;
    *) PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin ;;
esac
export PATH

# build PACKAGE WHY: the release build of one package. One package at a time: together they would share features, and be
# built once more.
build() {
    say "building $1: $2"
    long "building $1" cargo build --release --locked --target-dir "$target" -p "$1" && return
    [ -z "$enough" ] || ! "$enough" || return 0
    local host why
    host=$(rustc -vV | sed -n 's/^host: //p')
    why=$(CARGO_NET_RETRY=0 cargo fetch --locked --quiet --target "$host" 2>&1) || case $why in
        *'--locked was passed'*) ;;
        *) die 'the crates cannot be downloaded: check the network (a proxy: https_proxy; a mirror: ~/.cargo/config.toml) and start again' ;;
    esac
    die "$1 cannot be built; the reason is above"
}

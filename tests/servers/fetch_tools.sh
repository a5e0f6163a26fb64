#!/bin/sh
# Put the Debian tools that the tests talk to into the directory $1: docker-registry, skopeo, aria2c.
# What the host has already is left to it; the registry is only unpacked, because installing it starts a service.
# Root installs the clients with apt-get, anyone else unpacks them too. Quick the second time; never fails a build:
# tests that need a tool that could not be had are skipped and say so.
set -u
target=$1
mkdir -p "$target/bin"

has() { command -v "$1" >/dev/null 2>&1 || [ -x "$target/bin/$1" ]; }

unpack() { # program, where its package puts it, packages
    program=$1 path=$2
    shift 2
    work=$(mktemp -d)
    if (cd "$work" && { apt-get -qq download "$@" || { apt-get -qq update && apt-get -qq download "$@"; }; } &&
        for package in *.deb; do dpkg-deb -x "$package" root || exit 1; done) >/dev/null 2>&1; then
        mkdir -p "$target/lib"
        find "$work/root/usr/lib" -name '*.so.*' -exec cp -P {} "$target/lib/" \; 2>/dev/null
        cp "$work/root/$path" "$target/bin/$program.tmp" && mv "$target/bin/$program.tmp" "$target/bin/$program"
    fi
    rm -rf "$work"
}

install() { # package
    [ "$(id -u)" = 0 ] || return 1
    { apt-get -qq -y --no-install-recommends install "$1" ||
        { apt-get -qq update && apt-get -qq -y --no-install-recommends install "$1"; }; } >/dev/null 2>&1
}

if has docker-registry && has skopeo && has aria2c; then exit 0; fi
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    has docker-registry || unpack docker-registry usr/bin/docker-registry docker-registry
    has skopeo || install skopeo || unpack skopeo usr/bin/skopeo skopeo libgpgme11 libdevmapper1.02.1 libassuan0
    has aria2c || install aria2 || unpack aria2c usr/bin/aria2c aria2 libaria2-0 libc-ares2 libssh2-1
fi
for program in docker-registry skopeo aria2c; do
    has "$program" || echo "$program could not be had: the tests that need it are skipped" >&2
done
exit 0

#!/bin/sh
# Put OpenMoji 17.0.0 into the directory $1, as the file that npm publishes; genzoo checks it by digest.
# Does nothing where it is already there.
set -eu
case $1 in /*) target=$1 ;; *) target=$PWD/$1 ;; esac
version=17.0.0
if [ -f "$target/openmoji-$version.tgz" ]; then
    exit 0
fi
if ! command -v npm >/dev/null; then
    echo "OpenMoji is not here and there is no npm to fetch it with: set GENZOO_OPENMOJI to openmoji-$version.tgz" >&2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent "openmoji@$version" >/dev/null
mkdir -p "$target"
mv "openmoji-$version.tgz" "$target/"

#!/bin/sh
# Put the four files of Fashion-MNIST into the directory $1, from the Debian package, without installing it.
# Does nothing where they are already there or the package is installed; genzoo checks every file by digest.
set -eu
case $1 in /*) target=$1 ;; *) target=$PWD/$1 ;; esac
package=dataset-fashion-mnist
if [ -f "$target/train-images-idx3-ubyte.gz" ] || [ -d /usr/share/datasets/fashion-mnist ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "Fashion-MNIST is not here and there is no apt to fetch it with: set GENZOO_FASHION_MNIST to a directory" \
        "that holds it (tests that need it are skipped until then)" >&2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -qq download "$package" 2>/dev/null || { apt-get -qq update && apt-get -qq download "$package"; }
dpkg-deb -x "$package"_*.deb .
mkdir -p "$(dirname "$target")"
rm -rf "$target"
mv usr/share/datasets/fashion-mnist "$target"

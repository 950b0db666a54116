#!/usr/bin/env bash
# Packs what a GPU machine without Rust needs to test and time this library: the parity suite, the benches and three
# programs, stripped, with the fixtures.
#
#   rwkv-core/benches/bundle.sh                      # features "cuda", into rwkv-bundle.tar.gz
#   rwkv-core/benches/bundle.sh "cuda wgpu" out.tgz
#
# There: tar xzf rwkv-bundle.tar.gz && rwkv-bundle/run.sh [tests|benches|speed] ...
set -euo pipefail
cd "$(dirname "$0")/../.."
features="${1:-cuda}" archive="${2:-rwkv-bundle.tar.gz}"
case "$archive" in /*) ;; *) archive="$PWD/$archive" ;; esac
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
bundle="$folder/rwkv-bundle"
mkdir -p "$bundle/tests" "$bundle/benches" "$bundle/examples" "$bundle/rwkv-core/tests"

# One selection of packages, so that features mean the same in all three.
build() { cargo "$@" --workspace --features "$features" 2>&1 | tee /dev/stderr; }
# "  Executable tests/backends/main.rs (target/release/deps/backends-0123456789abcdef)" becomes "backends", with its path.
executables() { sed -n 's|^ *Executable .* (\(.*\))$|\1|p'; }
place() {
  while read -r file; do
    name="$(basename "$file")"
    install -s -m 755 "$file" "$1/${name%-*}"
  done
}

build test --release --no-run --test backends | executables | place "$bundle/tests"
build bench --no-run --bench wkv --bench model --bench decode --bench train_step | executables | place "$bundle/benches"
build build --release --example speed --example train --example quickstart >/dev/null
target="${CARGO_TARGET_DIR:-target}"
for name in speed train quickstart; do install -s -m 755 "$target/release/examples/$name" "$bundle/examples/$name"; done
cp -r rwkv-core/tests/fixtures "$bundle/rwkv-core/tests/fixtures"
git rev-parse HEAD >"$bundle/COMMIT"

{
  echo '#!/usr/bin/env bash'
  echo "features='$features'"
  cat <<'RUN'
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
export CARGO_MANIFEST_DIR="$here/rwkv-core" # where the tests find their fixtures
echo "commit $(cat "$here/COMMIT"), features $features"
[ $# -gt 0 ] || set -- tests benches speed
for what in "$@"; do
  case "$what" in
    tests) RWKV_REQUIRE_DEVICES="${features// /,}" "$here/tests/backends" --test-threads 4 ;;
    benches) for bench in "$here"/benches/*; do "$bench" --bench --max-time 3; done ;;
    speed)
      for backend in $features; do
        for preset in rwkv4_169m rwkv4_1b5; do "$here/examples/speed" --preset "$preset" --backend "$backend"; done
      done ;;
    *) echo "tests, benches or speed, not $what" >&2; exit 1 ;;
  esac
done
RUN
} >"$bundle/run.sh"
chmod +x "$bundle/run.sh"
tar czf "$archive" -C "$folder" rwkv-bundle
echo "$archive: $(du -h "$archive" | cut -f1)"

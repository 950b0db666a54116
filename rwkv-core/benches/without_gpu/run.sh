#!/usr/bin/env bash
# Runs a program that was built with the feature "cuda" on a machine without an NVIDIA GPU.
#
#   rwkv-core/benches/without_gpu/run.sh target/release/deps/decode-0123456789abcdef --bench cuda
#
# NVIDIA's compiler, from PyPI, compiles every kernel for compute capability 9.0 (an H100 or H200), and its assembler says at
# the end how many registers each takes and whether any spill. Launches do nothing, so every number that the program computes
# is wrong, and what it says of its time is the host's share alone: what a token or a step costs before a GPU has done
# anything. Needs python3 with pip, a C compiler and Linux on x86-64.
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0" >&2; exit 1; }
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/rwkv-without-gpu"
cuda="$cache/packages/nvidia/cu13"
if [ ! -e "$cache/ready" ]; then
  python3 -m pip install --quiet --target "$cache/packages" \
    "nvidia-cuda-nvrtc==13.*" "nvidia-cuda-nvcc==13.*" "nvidia-cuda-runtime==13.*"
  # The names that are looked for. There must be no libcuda.so.1: the compiler itself would load it.
  mkdir -p "$cache/lib"
  cp "$cuda"/lib/libnvrtc.so.13 "$cache/lib/libnvrtc.so"
  cp "$cuda"/lib/libnvrtc-builtins.so.13.* "$cache/lib/"
  touch "$cache/ready"
fi
cc -shared -fPIC -O1 -w -o "$cache/lib/libcuda.so" "$here/driver.c"
WITHOUT_GPU_KERNELS="$(mktemp -d)"
export WITHOUT_GPU_KERNELS
trap 'rm -rf "$WITHOUT_GPU_KERNELS"' EXIT
status=0
CUDA_PATH="$cuda" LD_LIBRARY_PATH="$cache/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$@" || status=$?
cd "$WITHOUT_GPU_KERNELS"
[ -e launches ] || exit "$status"
while read -r number launches name; do
  if said="$("$cuda/bin/ptxas" --gpu-name sm_90a --verbose --output-file /dev/null "$number.ptx" 2>&1)"; then
    awk -v launches="$launches" -v name="$name" '
      /spill stores/ { spilled = $5 }
      /Used [0-9]+ registers/ { for (i = 1; i < NF; i++) if ($i == "Used") printf "%8d %4d %5d  %s\n", launches, $(i + 1), spilled, name }
    ' <<<"$said" >>table
  else
    echo "$name: $said" >&2
    status=1
  fi
done <launches
echo
echo "launches, registers, bytes spilled, kernel"
sort -rn table
echo "$(awk '{ sum += $2 } END { print sum }' launches) launches of $(wc -l <launches) kernels"
exit "$status"

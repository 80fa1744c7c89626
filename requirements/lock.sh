#!/usr/bin/env bash
# Resolve both locks anew from pyproject.toml. Called by `python3 make.py lock`; options go to uv, such as --upgrade or
# --upgrade-package trl. A pin that a lock already holds stays where it can. The CPU's lock starts from the GPU's pins,
# so that both install the same versions of what they share; tests/test_setup.py checks that they do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

resolve() {
  local device=$1
  shift
  uv pip compile ../pyproject.toml --output-file "lock-$device.txt" \
    --extra train --extra tasks --extra flows --extra dev --extra ray --extra notebook --extra "vllm-$device" \
    --overrides overrides.txt --overrides "overrides-$device.txt" \
    --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    --quiet --no-annotate --no-emit-index-url --custom-compile-command "python3 make.py lock" "$@"
}

resolve gpu "$@"
cp lock-gpu.txt lock-cpu.txt
# The usual index has no CPU builds of torch.
resolve cpu ${TORCH_INDEX:+--index "$TORCH_INDEX" --index-strategy unsafe-best-match}

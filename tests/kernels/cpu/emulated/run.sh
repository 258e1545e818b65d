#!/usr/bin/env bash
# The CPU's kernels on ARM processors that are emulated: tests, then the default model, whose tokens must be those of
# this machine. Outside CI: it fetches 0.3 GB, keeps 1.3 GB, and on two cores with nothing else to do takes a few minutes
# to begin and half an hour a processor (cortex-a72 most), of which the tokens are two to seven minutes.
#
#     bash tests/kernels/cpu/emulated/run.sh FOLDER [PROCESSOR ...]      with the environment of the tests active
#
# FOLDER keeps what was fetched and compiled, so a second run begins at once. Processors are QEMU's: cortex-a72 has NEON,
# neoverse-n1 dot products too, max also products of small matrices (i8mm); all three, if none is named. apple-m2 is max
# with object files as a Mac has them. PYTEST_ARGUMENTS replaces the choice of tests, quoted as for a shell.
#
# It needs a Debian (or Ubuntu) with `apt-get install qemu-user-static debootstrap`, and no rights beyond that: packages
# of arm64 are unpacked, not installed, and QEMU looks for libraries there (-L); neither chroot nor binfmt_misc is used.
# Programs that an emulated process starts are therefore this machine's.
#
# Kernels are compiled by this machine, which would take longest under emulation (far_compiler.py), and are loaded, linked
# and run by the emulated process.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../../../.." && pwd)
processors=("$@")
[ ${#processors[@]} -gt 0 ] || processors=(neoverse-n1 max cortex-a72)
python=${PYTHON:-python3}
debian=bookworm # whose Python is 3.11, of which the wheels are
tests=(
    tests/kernels/cpu/test_linear.py tests/kernels/cpu/test_attention.py tests/kernels/cpu/test_lay.py
    tests/kernels/cpu/test_coded.py tests/kernels/cpu/test_table.py tests/kernels/cpu/test_latent.py
    tests/kernels/cpu/test_pool.py tests/kernels/cpu/test_cores.py tests/kernels/cpu/test_arm.py
    tests/kernels/cpu/test_activations.py tests/kernels/cpu/test_experts.py tests/kernels/cpu/test_states.py
    tests/kernels/cpu/test_steps_of_experts.py
    # of attention every KV dtype and size of heads, each against the reference and in any company; no products that are
    # long enough for another thread to count meanwhile
    -k "(not test_attention.py or equals_the_reference or chunks_and_company or lesser) and not lock_of_python"
)
[ -z "${PYTEST_ARGUMENTS:-}" ] || eval "tests=($PYTEST_ARGUMENTS)"

for program in qemu-aarch64-static debootstrap dpkg-deb; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install qemu-user-static debootstrap"; exit 2; }
done

# Whole or not at all, as are the wheels: a run that was interrupted is begun again. Without root: nothing is installed.
fetch_root() {
    [ ! -e "$folder/root" ] || return 0
    local part="$folder/root.part"
    rm -rf "$part"
    debootstrap --download-only --arch=arm64 --variant=minbase --include=python3,libgomp1,libstdc++6 "$debian" "$part"
    mkdir -p "$part"/usr/{bin,sbin,lib}
    ln -s usr/bin usr/sbin usr/lib "$part" # of packages that still name the old places
    for package in "$part"/var/cache/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --extract --directory "$part" --keep-directory-symlink
    done
    mv "$part" "$folder/root"
}

# All that the tests import, of the versions that this machine has; torch is one that comes without CUDA.
fetch_wheels() {
    [ ! -e "$folder/site" ] || return 0
    local wanted part="$folder/site.part"
    rm -rf "$part"
    wanted=$("$python" - <<'PYTHON'
import importlib.metadata as installed

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOTS = ("llvmlite numpy tokenizers jinja2 gguf huggingface-hub typer rich msgspec pydantic platformdirs pytest "
         "pytest-asyncio pytest-timeout pytest-xdist hypothesis sympy networkx fsspec")
left, found = ROOTS.split(), {}
while left:
    name = canonicalize_name(left.pop())
    if name not in found:
        found[name] = installed.version(name)
        needs = [Requirement(text) for text in installed.requires(name) or []]
        left += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
print("torch==2.9.1", *(f"{name}=={version}" for name, version in found.items()))
PYTHON
    )
    # shellcheck disable=SC2086
    "$python" -m pip install --quiet --no-deps --target "$part" --only-binary=:all: --python-version 3.11 \
        --implementation cp --abi cp311 --abi abi3 --abi none --platform manylinux_2_28_aarch64 \
        --platform manylinux_2_27_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 $wanted
    mv "$part" "$folder/site"
}

emulate() { # PROCESSOR ARGUMENTS OF PYTHON ...
    PYTHONPATH="$repository:$folder/site" STEMMA_CACHE="$folder/cache" nice -n 19 \
        qemu-aarch64-static -L "$folder/root" -cpu "$1" "$folder/root/usr/bin/python3.11" "${@:2}"
}

compile_for() { # ARGUMENTS OF PYTHON ...: what is loaded does nothing, so most of it fails, and that is no matter
    STEMMA_CACHE="$folder/cache" "$python" "$@" >"$folder/compiled.log" 2>&1 || true
}

cd "$repository"
fetch_root >"$folder/root.log"
fetch_wheels
export PYTHONPATH="$repository"
"$python" "$here/far_compiler.py" serve "$folder/far" &
trap 'kill $!' EXIT
STEMMA_CACHE="$folder/cache" "$python" "$here/tokens.py" >"$folder/here.json"
for processor in "${processors[@]}"; do
    machine=$processor kind=
    if [ "$processor" = apple-m2 ]; then machine=max kind=mac; fi
    description=$(emulate "$machine" "$here/far_compiler.py" describe $kind)
    echo "== $processor: $description"
    test_with=(-m pytest -n 0 -q -p no:cacheprovider -p tests.kernels.cpu.emulated.far_compiler --far "$folder/far"
        --kind "$kind" --basetemp "$folder/temporary-$processor" --durations 5 "${tests[@]}")
    compile_for "${test_with[@]}" --as "$description"
    emulate "$machine" "${test_with[@]}"
    compile_for "$here/tokens.py" "$folder/far" "$description"
    emulate "$machine" "$here/tokens.py" "$folder/far" "" "$kind" >"$folder/$processor.json"
    "$python" - "$folder/here.json" "$folder/$processor.json" <<'PYTHON'
import json
import sys

here, there = (json.loads(open(path, encoding="utf-8").read().splitlines()[-1]) for path in sys.argv[1:])
assert there["tokens"] == here["tokens"], f"{there['target']} says other tokens than {here['target']}"
alike = "the same bits" if there["bits of logits"] == here["bits of logits"] else "not the same bits"
print(f"{there['target']}: the tokens of {here['target']}; of logits {alike}")
PYTHON
done

#!/usr/bin/env bash
# llama.cpp for every x86-64 CPU and, by Vulkan, every GPU: the release's library instead of one made for this CPU.
#   packaging/build_llama.sh [FOLDER]        default build/llama/lib; then NEXUS_LLAMA_LIB=FOLDER make package
#   CONFIGURE_ONLY=1 stops before compiling
# needs: build-essential cmake libvulkan-dev glslc spirv-headers (Debian 12), and pip to fetch llama-cpp-python's source
# State: configured on Debian 12. Not compiled to the end and not run: neither the Vulkan backend nor the choice between
# CPU variants has been tried, and nexusnode/draft/llama.py does not load backends from this folder yet
# (ggml_backend_load_all_from_path before llama_backend_init). Debian's glslc leaves out the tensor-core shaders:
# correct but slower; ship from a newer SDK.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=$(realpath -m "${1:-build/llama/lib}")
version=0.3.36   # as pyproject.toml pins it: its structs change every few weeks
work=build/llama/$version
mkdir -p "$work"
if [ ! -f "$work/CMakeLists.txt" ]; then
  "${PYTHON:-python3}" -m pip download --no-deps --no-binary llama-cpp-python -d build/llama "llama-cpp-python==$version"
  tar -xzf "build/llama/llama_cpp_python-$version.tar.gz" -C "$work" --strip-components=1
fi
# No OpenMP: the variants bring ggml's own threads, and no libgomp is asked of the system.
cmake -S "$work/vendor/llama.cpp" -B "$work/build" \
  -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
  -DCMAKE_BUILD_RPATH_USE_ORIGIN=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON \
  -DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON -DGGML_VULKAN=ON -DGGML_OPENMP=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_CURL=OFF \
  -DCMAKE_PROJECT_INCLUDE="$root/packaging/vk_compat.cmake" -DNEXUS_VK_COMPAT="$root/packaging/vk_compat.hpp"
[ -z "${CONFIGURE_ONLY:-}" ] || exit 0
cmake --build "$work/build" --parallel "${JOBS:-$(nproc)}"
rm -rf "$target"
mkdir -p "$target"
find "$work/build/bin" -maxdepth 1 -name 'lib*.so*' -exec cp -a {} "$target/" \;
ls "$target"

"""The files of ONNX Runtime that run a generator in a browser: python -m inference.export.web_runtime gets them."""

from pathlib import Path

from serialization.download.npm import npm_files
from util.errors import EnvironmentFault, print_line

PACKAGE = "onnxruntime-web@1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = ("dist/ort.wasm.min.mjs", "dist/ort-wasm-simd-threaded.mjs", "dist/ort-wasm-simd-threaded.wasm",
         "dist/ort.webgpu.min.mjs", "dist/ort-wasm-simd-threaded.asyncify.mjs",
         "dist/ort-wasm-simd-threaded.asyncify.wasm")  # fmt: skip


def runtime_files() -> list[Path]:
    """Return the files, from the user's cache or once from npm; raises EnvironmentFault without npm."""
    return list(npm_files(PACKAGE, SHA512, FILES).values())


def main() -> None:
    """Get the files, so that --format web needs no network later, and print the result in one line."""
    try:
        print_line(f"{PACKAGE} is in {runtime_files()[0].parent}")
    except EnvironmentFault as problem:
        print_line(f"{PACKAGE}: not there, so --format web asks npm for it: {problem}")


if __name__ == "__main__":
    main()

"""Random bag reads: the store with each compression, one HDF5 file a slide with chunks of one row, a NumPy memmap.

Same features, same dtype, same order of bags, warm page cache. Prints bags a second, the ratio to the layout of a file
a slide and to the memmap, and the size on disk. Run it with:
python tests/benchmarks/bench_store.py [SLIDES] [TILES] [DIM]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from mmcli.store import BagData, BagMeta, Patients, Source, Store, write_store
from mmcli.store.hdf5 import Rows

READS = 400


def rate(read: Callable[[int], np.ndarray], order: np.ndarray, bags: list[np.ndarray]) -> float:
    """Bags a second over `order`, after one pass that warms the cache and checks every value."""
    for i, bag in enumerate(bags):
        np.testing.assert_array_equal(read(i), bag)
    start = time.perf_counter()
    for i in order.tolist():
        read(i)
    return len(order) / (time.perf_counter() - start)


def main(slides: int = 60, tiles: int = 2000, dim: int = 512) -> None:
    """Write the layouts into a temporary folder and time them."""
    rng = np.random.default_rng(0)
    counts = rng.integers(tiles // 2, tiles * 3 // 2, slides)
    # Rectified normal numbers: as hard to compress as latents are.
    bags = [np.maximum(rng.normal(size=(n, dim)), 0).astype(np.float16) for n in counts]
    order = rng.integers(0, slides, READS)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    stacked = np.concatenate(bags)
    results: dict[str, tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, bag in enumerate(bags):
            with h5py.File(folder / f"{i}.h5", "w") as file:
                file.create_dataset("features", data=bag, chunks=(1, dim), maxshape=(None, dim))

        def trident(i: int) -> np.ndarray:
            with h5py.File(folder / f"{i}.h5") as file:
                return file["features"][:]

        size = sum(p.stat().st_size for p in folder.glob("*.h5"))
        results["a file a slide, chunks of a row"] = rate(trident, order, bags), size
        memory = np.memmap(folder / "m.bin", np.float16, "w+", shape=stacked.shape)
        memory[:] = stacked
        memory.flush()
        mapped = rate(lambda i: np.array(memory[offsets[i] : offsets[i + 1]]), order, bags)
        results["NumPy memmap, copied"] = mapped, (folder / "m.bin").stat().st_size
        ids = [str(i) for i in range(slides)]
        sources = [Source(i, 0, "") for i in ids]
        data = BagData(
            BagMeta("slide"),
            np.ones(slides, bool),
            np.zeros(slides, bool),
            offsets,
            {"features": Rows.of(stacked)},
            sources,
        )
        for compression in ("none", "lzf", "gzip"):
            path = folder / f"store-{compression}.h5"
            write_store(path, {}, Patients(ids), {}, {"slide": data}, compression=compression)
            with Store(path) as store:
                bag = store.bags["slide"]
                results[f"mmcli store, {compression}"] = (
                    rate(lambda i, b=bag: b.rows("features", i), order, bags),
                    path.stat().st_size,
                )
    base = results["a file a slide, chunks of a row"][0]
    print(f"{slides} slides of about {tiles} tiles, {dim} float16 each; {READS} random bags, page cache warm")
    for layout, (bags_s, size) in results.items():
        ratios = f"{bags_s / base:6.1f} x  {bags_s / mapped:5.2f} of memmap"
        print(f"{layout:34} {bags_s:8.0f} bags/s  {ratios}  {size / 2**20:6.0f} MiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

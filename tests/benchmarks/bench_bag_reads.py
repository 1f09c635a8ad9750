"""Random bag reads: our store against TRIDENT's layout and a NumPy memmap of the same features.

Same features, same dtype, same order of bags, one thread, in one run. TRIDENT's layout has an HDF5 file a slide with
chunks of one row, opened for each bag as its users do. Every way is timed with a warm page cache, and cold: before each
bag the pages of its file are dropped with posix_fadvise(DONTNEED) on the written and synced file, which needs no
rights; the disk's own cache stays. Pages that a mapping holds are not dropped, so that cold the memmap is made anew for
each bag, and not timed. The memmap and the store take turns at each bag and TRIDENT's layout has its rounds between
theirs, so that a busy machine hurts all of them alike; rates and ratios are medians over the bags, a ratio being that
of the times which the same bag took. Prints them with the sizes on disk.
Run it with: python tests/benchmarks/bench_bag_reads.py [SLIDES] [TILES] [DIM] [DTYPE] [FOLDER]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from mmcli.store import BagData, BagMeta, Patients, Source, Store, write_store
from mmcli.store.hdf5 import Rows

ROUNDS, WARM, COLD = 5, 40, 20
TRIDENT, MEMMAP, OURS = "TRIDENT: a file a slide, chunks (1, D)", "NumPy memmap, bag copied", "mmcli store"


def drop(path: Path) -> None:
    """Drop a file's pages from the cache; only pages that are written to disk can be dropped."""
    handle = os.open(path, os.O_RDONLY)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def seconds(read: Callable[[int], np.ndarray], i: int) -> float:
    """Seconds that one bag takes."""
    start = time.perf_counter()
    read(i)
    return time.perf_counter() - start


def main(slides: int = 60, tiles: int = 2000, dim: int = 1024, dtype: str = "float16", where: str = "") -> None:
    """Write the layouts into a temporary folder and time them."""
    rng = np.random.default_rng(0)
    counts = rng.integers(tiles // 2, tiles * 3 // 2, slides)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    # Rectified normal numbers: as hard to compress as latents are.
    stacked = np.maximum(rng.normal(size=(offsets[-1], dim)), 0).astype(dtype)
    with tempfile.TemporaryDirectory(dir=where or None) as name:
        folder = Path(name)
        (folder / "trident").mkdir()
        for i in range(slides):
            bag = stacked[offsets[i] : offsets[i + 1]]
            with h5py.File(folder / "trident" / f"{i}.h5", "w") as file:
                file.create_dataset("features", data=bag, chunks=(1, dim), maxshape=(None, dim))
        stacked.tofile(folder / "m.bin")
        ids = [str(i) for i in range(slides)]
        everyone, nobody = np.ones(slides, bool), np.zeros(slides, bool)
        source = np.repeat(np.arange(slides, dtype=np.int32), counts)
        arrays = {"features": Rows.of(stacked), "source": Rows.of(source)}
        data = BagData(BagMeta("slide"), everyone, nobody, offsets, arrays, [Source(i, 0, "") for i in ids])
        write_store(folder / "s.h5", {}, Patients(ids), {}, {"slide": data})
        os.sync()
        held = [np.memmap(folder / "m.bin", dtype, "r", shape=stacked.shape)]

        def drop_of(way: str, i: int) -> None:
            if way == MEMMAP:
                held.clear()
            drop(ways[way][1](i))
            if way == MEMMAP:
                held.append(np.memmap(folder / "m.bin", dtype, "r", shape=stacked.shape))

        def trident(i: int) -> np.ndarray:
            with h5py.File(folder / "trident" / f"{i}.h5", "r") as file:
                return file["features"][:]

        with Store(folder / "s.h5") as store:
            own = store.bags["slide"]
            ways: dict[str, tuple[Callable[[int], np.ndarray], Callable[[int], Path]]] = {
                TRIDENT: (trident, lambda i: folder / "trident" / f"{i}.h5"),
                MEMMAP: (lambda i: np.array(held[0][offsets[i] : offsets[i + 1]]), lambda i: folder / "m.bin"),
                OURS: (lambda i: own.rows("features", i), lambda i: folder / "s.h5"),
            }
            for read, _ in ways.values():
                for i in range(slides):
                    np.testing.assert_array_equal(read(i), stacked[offsets[i] : offsets[i + 1]])
            found: dict[tuple[str, str], list[float]] = {}
            for cache, reads in (("warm", WARM), ("cold", COLD)):
                for _ in range(ROUNDS):
                    order = rng.integers(0, slides, reads).tolist()
                    # The two fast ways in turn; TRIDENT's way by itself, as it leaves the processor's caches full.
                    for names in ([MEMMAP, OURS], [TRIDENT]):
                        for turn, i in enumerate(order):
                            for way in names[:: -1 if turn % 2 else 1]:
                                if cache == "cold":
                                    drop_of(way, i)
                                found.setdefault((way, cache), []).append(seconds(ways[way][0], i))
        sizes = {
            TRIDENT: sum(p.stat().st_size for p in (folder / "trident").iterdir()),
            MEMMAP: (folder / "m.bin").stat().st_size,
            OURS: (folder / "s.h5").stat().st_size,
        }
    print(f"{slides} slides of about {tiles} tiles, {dim} {dtype} each; one thread, medians")
    for cache in ("warm", "cold"):
        print(f"page cache {cache}")
        for way in (TRIDENT, MEMMAP, OURS):
            times = np.array(found[way, cache])
            to_trident = np.median(found[TRIDENT, cache] / times)
            to_memmap = np.median(found[MEMMAP, cache] / times)
            print(
                f"  {way:40} {1 / np.median(times):8.0f} bags/s {to_trident:7.1f} x TRIDENT {to_memmap:6.2f} x memmap "
                f"{sizes[way] / 2**20:8.1f} MiB"
            )


if __name__ == "__main__":
    given = sys.argv[1:]
    main(*map(int, given[:3]), *given[3:])

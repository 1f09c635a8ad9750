"""Whole extraction against the encoder's bare forward pass, and peak memory at 10 and at 100 slides.

    python tests/benchmarks/bench_extract.py DATA/images/slides/CMU-1-Small-Region.svs [--model resnet50] [--tiles 192]
    python tests/benchmarks/bench_extract.py SLIDE --memory

Speed: both sides take the same batches, threads and arithmetic, in turns within one process. The bare side runs the
network over normalised tensors that lie in memory; the other side is `mmcli extract-features` from the slides' files
to the finished store. Wall time says what a user waits for, CPU time what it costs: on a machine that others use as
well, the second is the one to trust. "pass" is reading and encoding, "whole" adds loading the encoder and packing.
Memory: the same slide under 10 and 100 names, extracted in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmcli.encoders import load_encoder
from mmcli.readers.malloc import keep_freed_memory
from mmcli.settings import ExtractSettings, PreprocessSettings
from mmcli.stages import extract, preprocess
from mmcli.stages.encode.batches import batches
from mmcli.stages.encode.pipeline import Pass
from mmcli.stages.encode.reading import Reader
from mmcli.stages.pixels import Pixels
from mmcli.store import Store, Stores


def prepared(folder: Path, slide: Path, count: int, tile_px: int) -> Path:
    """A prepared store of `count` patients who have one slide each, all links to the same file."""
    lines = ["patient_id,slide"]
    for i in range(count):
        (folder / f"{i}{slide.suffix}").symlink_to(slide.resolve())
        lines.append(f"p{i:03},{i}{slide.suffix}")
    (folder / "patients.csv").write_text("\n".join(lines) + "\n")
    (folder / "cohort.yaml").write_text(
        "patients: patients.csv\nid: patient_id\nmodalities:\n  slide: {kind: slide, path: slide}\n"
    )
    out = folder / "prepared.h5"
    preprocess.run(PreprocessSettings(
        cohort=folder / "cohort.yaml", out=out, quiet=True, target_mpp={"": "native"}, tile_px={"": str(tile_px)},
    ))  # fmt: skip
    return out


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def in_memory(store: Path, arguments: argparse.Namespace, encoder: Any) -> tuple[list[torch.Tensor], int]:
    """The batches of an extraction as normalised tensors, and how many tiles they hold; prints the reading rate."""
    with Stores([store]) as stores:
        bag = stores.bags["slide"]
        reader = Reader(Pixels(bag, store.parent), [encoder], set(), pinned=False)
        plan = list(batches(range(len(bag.present)), np.diff(bag.offsets), arguments.batch))
        wall, cpu = timed(lambda: [reader(batch) for batch in plan])
        pixels = [next(iter(reader(batch).pixels.values())) for batch in plan]
    count = sum(batch.used for batch in plan)
    print(f"reading alone, one thread: {count / wall:.0f} tiles/s ({cpu / count * 1e3:.2f} ms of CPU a tile)")
    return [encoder.prepare(torch.from_numpy(p).to(encoder.device)) for p in pixels], count


def forward(encoder: Any, tensors: list[torch.Tensor]) -> None:
    """The bare side."""
    with torch.inference_mode():
        for tensor in tensors:
            with encoder.arithmetic():
                latents = encoder.forward(tensor)
            latents.float().cpu()


PASSES: list[tuple[float, float]] = []
RUN = Pass.run


def timed_run(work: Pass, *given: Any) -> None:
    """`Pass.run`, its time kept in PASSES."""
    PASSES.append(timed(lambda: RUN(work, *given)))


def compare(store: Path, precision: str, threads: int, arguments: argparse.Namespace) -> None:
    """Both sides in turns at one precision."""
    options = {"precision": precision}
    encoder = load_encoder(
        arguments.model, random_weights=True, options=options, device=arguments.device, threads=threads
    )
    tensors, count = in_memory(store, arguments, encoder)

    def whole(number: int) -> None:
        extract.run(ExtractSettings(
            stores=[store], out=store.parent / f"{precision}-{number}.h5", encoder={"slide": arguments.model},
            random_weights=True, set=options, batch=arguments.batch, quiet=True, workers=arguments.workers,
            device=arguments.device,
        ))  # fmt: skip

    forward(encoder, tensors[:1])
    rows = []
    for number in range(arguments.rounds):
        alone = timed(lambda: forward(encoder, tensors))
        everything = timed(partial(whole, number))
        rows.append((*alone, *PASSES[-1], *everything))
        rates = [f"{name} {count / wall:.1f} ({cpu / count * 1e3:.1f})" for name, (wall, cpu) in (
            ("bare", alone), ("pass", PASSES[-1]), ("whole", everything))]  # fmt: skip
        print(f"  {precision} tiles/s (CPU ms a tile): {', '.join(rates)}", flush=True)
    ratios = [statistics.median(row[i] / row[i % 2] for row in rows) for i in range(2, 6)]
    best = [min(column) for column in zip(*rows, strict=True)]
    for name, i in (("pass", 2), ("whole", 4)):
        print(
            f"{precision} {name}/bare: median wall {ratios[i - 2]:.3f}, CPU {ratios[i - 1]:.3f}; "
            f"best/best wall {best[i] / best[0]:.3f}, CPU {best[i + 1] / best[1]:.3f}"
        )


def speed(arguments: argparse.Namespace, folder: Path) -> None:
    """Print the ratios at each precision."""
    (folder / "one").mkdir()
    with Store(prepared(folder / "one", arguments.slide, 1, arguments.tile_px)) as store:
        each = int(store.bags["slide"].offsets[-1])
    slides = max(1, round(arguments.tiles / each))
    store_path = prepared(folder, arguments.slide, slides, arguments.tile_px)
    threads = arguments.workers or len(os.sched_getaffinity(0))
    print(f"{slides} slides of {each} tiles of {arguments.tile_px} px; {threads} threads, batch {arguments.batch}")
    Pass.run = timed_run  # type: ignore[method-assign]
    if not arguments.plain_malloc:
        keep_freed_memory(large=True)  # for both sides: extract does so for its process
    for precision in arguments.precision.split(","):
        compare(store_path, precision, threads, arguments)


CHILD = """
import sys
from mmcli.settings import ExtractSettings
from mmcli.stages import extract
from mmcli.training.memory import peak_memory
store, out, model = sys.argv[1:]
encoder = {"slide": model}
extract.run(ExtractSettings(stores=[store], out=out, encoder=encoder, random_weights=True, quiet=True, batch=32))
print(peak_memory() / 2**20)
"""


def memory(arguments: argparse.Namespace, folder: Path) -> dict[int, float]:
    """Slides -> MiB at the peak of a process."""
    peaks = {}
    for count in (10, 100):
        (folder / str(count)).mkdir()
        store = prepared(folder / str(count), arguments.slide, count, arguments.tile_px)
        given = [str(store), str(folder / f"{count}.h5"), arguments.model]
        done = subprocess.run([sys.executable, "-c", CHILD, *given], capture_output=True, text=True, check=True)
        peaks[count] = float(done.stdout.split()[-1])
        print(f"{count} slides: peak {peaks[count]:.1f} MiB")
    print(f"100 against 10 slides: {peaks[100] / peaks[10] - 1:+.1%} (goal: within 5 %)")
    return peaks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slide", type=Path)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--tiles", type=int, default=192)
    parser.add_argument("--tile-px", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32,bfloat16")
    parser.add_argument("--plain-malloc", action="store_true", help="let the first bare round have glibc's own limits")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (memory if arguments.memory else speed)(arguments, Path(folder))


if __name__ == "__main__":
    main()

"""hyperimpute and miceforest beside mmcli, same hidden cells: `python bench_imputers.py --data TABLES --peers PYTHON`.

The peers want older libraries than mmcli, so they run in a Python of their own, to which this script hands the cells:

    python3.11 -m venv peers
    peers/bin/pip install "numpy==1.26.4" "pandas==2.1.4" "scipy==1.11.4" "scikit-learn==1.3.2" "torch==2.13.0" \
        "lightgbm==4.3.0" "catboost==1.2.5" "optuna==3.6.1" "loguru==0.6.0" "redis==5.0.4" "cloudpickle==3.0.0" \
        "geomloss==0.2.6" "pydantic==2.7.1" "miceforest==6.0.5"
    peers/bin/pip install --no-deps "xgboost==1.7.6" "miracle-imputation==0.1.6" "hyperimpute==0.1.17"
    python tests/benchmarks/bench_imputers.py --data TABLES --peers peers/bin/python

(`--no-deps`: hyperimpute asks for TensorFlow and Jupyter, which the imputer measured here does not use.)

What to know of them. hyperimpute's `fit` returns without fitting and `transform` fits on the rows it is given, so it is
given training and test rows together and marked `*`: it sees the test rows, mmcli and miceforest do not. miceforest's
`complete_data` of new data gives iteration 0, the random first draw, unless the iteration is named. hyperimpute has one
answer for everything; miceforest's draws are averaged for the mean, and their median is taken for the median.

Printed are the RMSE of the mean, the MAE of the median and the W1 of a draw (Wasserstein-1), each over those of mmcli's
`mean`, and the CPU seconds of fitting and filling (all answers; without imports).
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

OWN = ("mean", "mice", "copula", "blend")
ANSWERS = ("mean", "median", "draw")
FIGURES = ("rmse", "mae", "w1")
ROUNDS, DRAWS = 5, 5


def miceforest(train: np.ndarray, test: np.ndarray, levels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Fitted on the training rows, draws for the test rows."""
    import miceforest as mf
    import pandas as pd

    def frame(values: np.ndarray) -> Any:
        columns = {}
        for j, count in enumerate(levels):
            cells = values[:, j]
            if count:
                codes = np.where(np.isnan(cells), -1, cells).astype(int)
                columns[f"c{j}"] = pd.Categorical.from_codes(codes, categories=list(range(count)))
            else:
                columns[f"c{j}"] = cells
        return pd.DataFrame(columns)

    kernel = mf.ImputationKernel(frame(train), num_datasets=DRAWS, random_state=seed)
    kernel.mice(ROUNDS, num_threads=1)
    filled = kernel.impute_new_data(frame(test), iterations=ROUNDS, random_state=seed)
    draws = np.stack([filled.complete_data(m, iteration=ROUNDS).astype(float).to_numpy() for m in range(DRAWS)])
    return {"mean": draws.mean(0), "median": np.median(draws, 0), "draw": draws[0]}


def hyperimpute(train: np.ndarray, test: np.ndarray, levels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Fitted on training and test rows together: it cannot do otherwise."""
    import pandas as pd
    from hyperimpute.plugins.imputers import Imputers

    stacked = pd.DataFrame(np.concatenate([train, test]), columns=[f"c{j}" for j in range(len(levels))])
    filled = Imputers().get("hyperimpute", random_state=seed).fit_transform(stacked)
    test_rows = np.asarray(filled, float)[len(train) :]
    return dict.fromkeys(ANSWERS, test_rows)


PEERS = {"miceforest": miceforest, "hyperimpute": hyperimpute}
SEES_TEST_ROWS = {"hyperimpute"}


def fill(peer: str, given: Path, out: Path) -> str:
    """In the peers' Python: the answers and CPU seconds of one peer, or why there are none."""
    if importlib.util.find_spec(peer) is None:
        return f"{peer} is not installed in {sys.executable}"
    importlib.import_module("hyperimpute.plugins.imputers" if peer == "hyperimpute" else peer)
    with np.load(given) as cells:
        arguments = [cells[name] for name in ("train", "test", "levels")]
        seed = int(cells["seed"])
    started = time.process_time()
    answers = PEERS[peer](*arguments, seed)
    np.savez(out, seconds=time.process_time() - started, **answers)
    return ""


def ask(python: str, peer: str, split: Any, levels: list[int], seed: int) -> tuple[dict[str, np.ndarray], float]:
    """A peer's answers from its own Python; LookupError with one line when it gives none."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder, "given.npz"), Path(folder, "out.npz")
        np.savez(given, train=split.train, test=split.test, levels=np.array(levels), seed=seed)
        command = [python, str(Path(__file__).resolve()), "--fill", peer, str(given), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not out.exists():
            said = (done.stderr.strip() or "no answer").splitlines()[-1]
            raise LookupError(f"{peer} left out: {said}")
        with np.load(out) as cells:
            return {answer: cells[answer] for answer in ANSWERS}, float(cells["seconds"])


def run_split(table: Any, way: str, seed: int, python: str) -> dict[str, dict[str, float]]:
    """Figures of every method on one split."""
    from protocol import hide, score
    from threadpoolctl import threadpool_limits

    from mmcli.imputers import make_imputer

    split, kinds, reached = hide(table, way, seed), list(table.columns.kinds), {}
    ids = [str(i) for i in split.test_rows]
    for method in (*OWN, *PEERS):
        if method in PEERS:
            try:
                filled, seconds = ask(python, method, split, table.columns.levels(), seed)
            except LookupError as error:
                print(error, file=sys.stderr)
                continue
        else:
            started = time.process_time()
            with threadpool_limits(1):
                imputer = make_imputer(method).fit(split.train, table.columns, seed=seed, draws=1)
                filled = {answer: imputer.transform(split.test, ids, answer=answer)[0] for answer in ANSWERS}
            seconds = time.process_time() - started
        scores = {answer: score(split, kinds, cells) for answer, cells in filled.items()}
        reached[method] = {figure: scores[answer][figure] for figure, answer in zip(FIGURES, ANSWERS, strict=True)}
        reached[method]["seconds"] = seconds
        if method == "mean":
            base = scores["mean"]
    return {m: f | {name: f[name] / base[name] for name in FIGURES} for m, f in reached.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the tables of examples/imputation")
    parser.add_argument("--tables", default="hcv,hepatitis", help="tables, with commas")
    parser.add_argument("--seeds", default="0", help="seeds, with commas")
    parser.add_argument("--ways", default="a,b", help="a: cells hidden at random; b: by their own value")
    parser.add_argument("--peers", default=sys.executable, help="Python that has the peers (default: this one)")
    parser.add_argument("--fill", nargs=3, metavar=("PEER", "GIVEN", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fill:
        peer, cells, out = given.fill
        sys.exit(fill(peer, Path(cells), Path(out)))
    if given.data is None:
        parser.error("--data is needed")
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples" / "imputation"))
    from tables import TABLES

    seeds = [int(seed) for seed in given.seeds.split(",")]
    print("| table | way | method | RMSE (mean) | MAE (median) | W1 (draw) | CPU s |\n" + "|---" * 7 + "|")
    for name in given.tables.split(","):
        table = TABLES[name](given.data)
        for way in given.ways.split(","):
            splits = [run_split(table, way, seed, given.peers) for seed in seeds]
            for method in (*OWN, *PEERS):
                rows = [split[method] for split in splits if method in split]
                if rows:
                    cells = [f"{np.mean([r[f] for r in rows]):.3f}" for f in FIGURES]
                    cells.append(f"{np.mean([r['seconds'] for r in rows]):.1f}")
                    shown = method + ("\\*" if method in SEES_TEST_ROWS else "")
                    print(f"| {name} | {way} | {shown} | " + " | ".join(cells) + " |", flush=True)
    print("\n\\* sees the test rows")


if __name__ == "__main__":
    main()

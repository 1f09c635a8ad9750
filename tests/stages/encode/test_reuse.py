"""--reuse: what is the same is taken over byte for byte, what is not is encoded anew and named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmcli.errors import DamagedError, RequestError
from mmcli.settings import ExtractSettings, PreprocessSettings
from mmcli.stages import extract, preprocess
from mmcli.store import Store, verify

ENCODERS = {"slide": "composition", "ct": "intensity-statistics"}


def encode(prepared: Path, out: Path, **given: Any) -> Any:
    given = {"encoder": ENCODERS, "quiet": True, "workers": 2, "dtype": "float32", "batch": 7, **given}
    return extract.run(ExtractSettings(stores=[prepared], out=out, **given))


@pytest.fixture
def old(prepared: Path, composition: Path, tmp_path: Path) -> Path:
    encode(prepared, tmp_path / "old.h5")
    return tmp_path / "old.h5"


def test_everything_is_taken_over(prepared: Path, old: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("nothing is left to be read")

    monkeypatch.setattr("mmcli.stages.encode.reading.Reader.__call__", never)
    done = encode(prepared, tmp_path / "new.h5", reuse=old)
    with Store(tmp_path / "new.h5") as one, Store(old) as two:
        assert one.content_sha256 == two.content_sha256  # the request does not tell where latents came from
        assert done.data["reused"] == {n: int(one.bags[n].present.sum()) for n in ENCODERS}
    assert "taken over from" in done.message and f"{done.data['reused']['slide']} of slide" in done.message
    assert verify(tmp_path / "new.h5") == []


def test_another_setting_is_named_and_encoded_anew(
    prepared: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = encode(prepared, tmp_path / "new.h5", reuse=old, batch=5, quiet=False)
    assert done.data["reused"] == {"slide": 0, "ct": 0}
    assert "--reuse: slide is encoded anew" in (said := capsys.readouterr().err)
    assert "batch: 7 there, 5 now" in said
    encode(prepared, tmp_path / "dtype.h5", reuse=old, dtype="float16", quiet=False)
    assert 'dtype: "float32" there, "float16" now' in capsys.readouterr().err
    given = {"encoder": {"ct": "resnet3d_10"}, "random_weights": True, "shard": "0/14", "batch": 1}
    encode(prepared, tmp_path / "other.h5", reuse=old, quiet=False, **given)
    assert "old.h5 has another encoder (intensity-statistics)" in capsys.readouterr().err


def test_only_patients_whose_files_changed_are_encoded(made: Path, prepared: Path, old: Path, tmp_path: Path) -> None:
    """One slide is replaced and one crop is moved; a second name of the modality takes over as well."""
    folder = tmp_path / "moved"
    shutil.copytree(made, folder)
    with Store(prepared) as store:
        slides = np.flatnonzero(store.bags["slide"].present)
        changed, donor = (
            folder / store.bags["slide"].sources[int(store.bags["slide"].rows("source", int(i))[0])].path
            for i in slides[:2]
        )
        ident = store.patients.ids[slides[0]]
    changed.write_bytes(donor.read_bytes())
    preprocess.run(PreprocessSettings(cohort=folder / "cohort.yaml", out=folder / "new.h5", quiet=True))
    again = {"slide@again": "composition"}
    done = encode(folder / "new.h5", tmp_path / "new.h5", reuse=old, encoder=again, root=folder)
    assert done.data["reused"] == {"slide@again": len(slides) - 1}
    with Store(tmp_path / "new.h5") as new, Store(old) as store, Store(folder / "new.h5") as prep:
        for i in slides[1:].tolist():
            for array in ("features", "coords"):
                before = store.bags["slide"].rows(array, i)
                np.testing.assert_array_equal(new.bags["slide@again"].rows(array, i), before)
        row = prep.patients.ids.index(ident)
        fresh = new.bags["slide@again"].rows("features", row)
        assert len(fresh) == len(prep.bags["slide"].rows("coords", row))
        source = new.bags["slide@again"].sources[int(new.bags["slide@again"].rows("source", row)[0])]
        assert (
            source.fingerprint == prep.bags["slide"].sources[int(prep.bags["slide"].rows("source", row)[0])].fingerprint
        )


def test_other_crops_of_the_same_files_are_not_taken_over(made: Path, old: Path, tmp_path: Path) -> None:
    """The volumes are the same, the masks are not: the stored pixels' digests tell."""
    folder = tmp_path / "masks"
    shutil.copytree(made, folder)
    lines = (folder / "patients.csv").read_text().splitlines()
    column = lines[0].split(",").index("ct_mask") if "ct_mask" in lines[0] else -1
    if column < 0:
        pytest.skip("the made cohort names no masks")
    rows = [line.split(",") for line in lines]
    with_mask = [row for row in rows[1:] if row[column]]
    with_mask[0][column] = ""  # the crop is then the volume's centre
    (folder / "patients.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
    preprocess.run(PreprocessSettings(
        cohort=folder / "cohort.yaml", out=folder / "new.h5", quiet=True, modalities=["ct"]
    ))  # fmt: skip
    given = {"encoder": {"ct": "intensity-statistics"}, "root": folder}
    done = encode(folder / "new.h5", tmp_path / "new.h5", reuse=old, **given)
    with Store(old) as store:
        assert done.data["reused"]["ct"] == int(store.bags["ct"].present.sum()) - 1


def test_a_file_that_is_no_store(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("no store")
    for path, kind, message in (
        (tmp_path / "text.h5", DamagedError, "not a feature store"),
        (tmp_path / "none.h5", RequestError, "no such feature store"),
    ):
        with pytest.raises(kind, match=message):
            encode(prepared, tmp_path / "f.h5", reuse=path, encoder={"ct": "intensity-statistics"})
    assert not (tmp_path / "f.h5").exists()


def test_the_output_cannot_be_the_one_that_is_reused(prepared: Path, old: Path) -> None:
    with pytest.raises(RequestError, match="is one of the files that are read"):
        encode(prepared, old, reuse=old, batch=5, force=True)

"""The ground layer: files that appear whole, fingerprints, the registry, outputs that exist already, progress."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path, PosixPath

import pytest

from mmcli.errors import RequestError
from mmcli.files import canonical_json, fingerprint, publish, publish_text, sha256_file
from mmcli.progress import track
from mmcli.registry import Registry
from mmcli.stages.outcome import difference, is_done


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    publish_text(path, "one")
    with pytest.raises(ValueError, match="stop"), publish(path) as temporary:
        temporary.write_text("half")
        raise ValueError("stop")
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_new_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    """A group on shared storage keeps its rights: no mode 0600 of a temporary file stays behind."""
    old = os.umask(0o007)
    try:
        publish_text(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o660


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails as it would there."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from pathlib import Path; from mmcli.files import publish_text\n"
        "publish_text(Path(sys.argv[1]), 'x' * 5000)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
    assert "mmcli.errors.UnwritableError" in done.stderr and "cannot be written (File too large)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_tell_files_apart(tmp_path: Path) -> None:
    small, large, series = tmp_path / "s", tmp_path / "l", tmp_path / "d"
    small.write_bytes(b"a")
    large.write_bytes(bytes(5 << 20))
    series.mkdir()
    (series / "1.dcm").write_bytes(b"x")
    before = [fingerprint(p) for p in (small, large, series)]
    assert len(set(before)) == 3
    small.write_bytes(b"b")
    with large.open("r+b") as file:
        file.seek((5 << 19) + 3)
        file.write(b"1")
    (series / "2.dcm").write_bytes(b"x")
    assert not {*before} & {fingerprint(p) for p in (small, large, series)}
    assert sha256_file(small) == "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"


def test_canonical_json_is_one_text_for_one_value() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "ü"}) == '{"a":"ü","b":[1,2.5]}'
    with pytest.raises(ValueError, match=r"nan|Out of range"):
        canonical_json(float("nan"))


def test_the_registry_imports_on_demand_and_names_the_nearest() -> None:
    things = {"path": "pathlib:PosixPath", "broken": "no_such_module:X", "other": "json:JSONDecoder"}
    registry = Registry("thing", "mmcli.nothing", "pathlib:Path", things)
    assert registry.names() == list(things) and "path" in registry
    assert registry.get("path") is PosixPath
    with pytest.raises(RequestError, match=r"unknown thing 'paht'; did you mean 'path'\? \(there are: path, broken"):
        registry.get("paht")
    with pytest.raises(RequestError, match=r"'other' \(json:JSONDecoder\) is not a subclass of mmcli's Path"):
        registry.get("other")
    with pytest.raises(ModuleNotFoundError):  # one of our own that is broken is our fault, not the user's
        registry.get("broken")


def test_a_broken_package_of_someone_else_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "alien-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: alien\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mmcli.imputers]\nalien = no_such_module:Imputer\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from mmcli.imputers import IMPUTERS

    with pytest.raises(RequestError, match=r"'alien' of another package \(no_such_module:Imputer\) cannot be loaded"):
        IMPUTERS.get("alien")


def test_the_same_request_is_done_and_another_is_refused(tmp_path: Path) -> None:
    request = {"a": 1, "set": {"x": "1"}}
    assert not is_done(tmp_path, request, None, False)
    assert is_done(tmp_path, request, {"set": {"x": "1"}, "a": 1}, False)
    assert not is_done(tmp_path, request, {"a": 2}, True)
    with pytest.raises(RequestError, match=r"set\.x: \"2\" there, \"1\" now"):
        is_done(tmp_path, request, {"a": 1, "set": {"x": "2"}}, False)
    assert difference({"a": 1}, {"a": 1, "b": 2}) == "b: null there, 2 now"


def test_progress_goes_to_stderr_as_lines_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], 3, "reading")) == [1, 2, 3]
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("reading: 3/3 in ")
    assert list(track(iter("ab"), 2, "x", quiet=True)) == ["a", "b"]
    assert capsys.readouterr().err == ""

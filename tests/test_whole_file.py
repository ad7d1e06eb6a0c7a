"""A file stays as it was until the next one is complete."""

import pytest

from chts_hf.whole_file import whole_file


def test_a_file_replaces_the_one_before_once_it_is_complete(tmp_path):
    path = tmp_path / "layers.json"
    path.write_text("before")
    with whole_file(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_on_the_way_leaves_the_file_before(tmp_path):
    path = tmp_path / "layers.json"
    path.write_text("before")
    with pytest.raises(OSError, match="disk full"):
        _write_half(path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def _write_half(path):
    with whole_file(path) as part:
        part.write_text("half")
        raise OSError("disk full")

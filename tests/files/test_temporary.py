"""Errors of what is written under another name at first."""

import errno

import pytest

from keras_attention.files.temporary import named_in_errors
from keras_attention.files.temporary import replace_when_written


def test_the_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with replace_when_written(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.suffix == ".html"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_failure(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(RuntimeError), replace_when_written(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "missing" / "page.html"
    with (
        pytest.raises(FileNotFoundError) as caught,
        replace_when_written(path) as temporary,
    ):
        temporary.write_text("new")
    assert caught.value.filename == str(path)
    assert str(caught.value).endswith(f"No such file or directory: '{path}'")


@pytest.mark.parametrize("number", [errno.ENOSPC, None])
def test_errors_that_have_the_name_in_their_text(tmp_path, number):
    temporary, path = tmp_path / ".writing-1", tmp_path / "export"
    text = f"unable to create '{temporary}/a.h5': No space left on device"
    arguments = (text,) if number is None else (number, text)
    with (
        pytest.raises(OSError, match=r"export/a\.h5") as caught,
        named_in_errors(temporary, path),
    ):
        raise OSError(*arguments)
    assert ".writing" not in str(caught.value)
    assert caught.value.errno == number


def test_other_errors_are_left_alone(tmp_path):
    error = OSError(errno.ENOENT, "No such file", "other")
    with (
        pytest.raises(OSError, match="other") as caught,
        named_in_errors(tmp_path / ".a", tmp_path / "b"),
    ):
        raise error
    assert caught.value is error

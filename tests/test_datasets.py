import gzip
import io

import keras
import numpy as np
import pytest
from PIL import Image

from keras_attention.datasets import load_dataset


def test_digits():
    (x, y), (x_test, y_test), names = load_dataset("digits")
    assert x.shape == (1347, 8, 8, 1) and x_test.shape == (450, 8, 8, 1)
    assert x.dtype == np.uint8 and x.max() == 255
    assert names == list("0123456789")
    assert sorted(set(y)) == sorted(set(y_test)) == list(range(10))
    again = load_dataset("digits")
    np.testing.assert_array_equal(again.test[0], x_test)


def test_digits_take_no_path():
    with pytest.raises(ValueError, match="takes no path"):
        load_dataset("digits", "x")


def test_fashion_mnist_from_its_authors_files(tmp_path):
    generator = np.random.default_rng(0)
    written = {}
    for part, count in (("train", 5), ("t10k", 3)):
        for kind, header, shape in (
            ("images-idx3", 16, (count, 28, 28)),
            ("labels-idx1", 8, (count,)),
        ):
            array = generator.integers(0, 10, shape, "uint8")
            written[part, header] = array
            name = tmp_path / f"{part}-{kind}-ubyte.gz"
            name.write_bytes(gzip.compress(bytes(header) + array.tobytes()))
    (x, y), (x_test, y_test), names = load_dataset("fashion-mnist", tmp_path)
    np.testing.assert_array_equal(x[..., 0], written["train", 16])
    np.testing.assert_array_equal(y, written["train", 8])
    np.testing.assert_array_equal(x_test[..., 0], written["t10k", 16])
    np.testing.assert_array_equal(y_test, written["t10k", 8])
    assert len(names) == 10 and names[9] == "boot"


def test_fashion_mnist_names_the_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="train-images-idx3"):
        load_dataset("fashion-mnist", tmp_path)


def jpeg(color):
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(stream, "jpeg")
    return np.frombuffer(stream.getvalue(), "uint8")


def test_cifar10_from_packed_jpegs(tmp_path):
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    files = [jpeg(color) for color in colors]
    arrays = {}
    for part in ("train", "test"):
        arrays[f"{part}_jpegs"] = np.concatenate(files)
        arrays[f"{part}_lengths"] = np.array([len(f) for f in files])
        arrays[f"{part}_labels"] = np.array([3, 1, 2], "uint8")
    np.savez(tmp_path / "packed.npz", **arrays)
    (x, y), (x_test, _), names = load_dataset(
        "cifar10", tmp_path / "packed.npz"
    )
    assert x.shape == x_test.shape == (3, 32, 32, 3)
    error = x.mean((1, 2)) - np.array(colors)
    assert np.abs(error).max() < 5
    assert y.tolist() == [3, 1, 2] and names[3] == "cat"


def test_cifar10_from_plain_arrays(tmp_path):
    x = np.zeros((2, 32, 32, 3), "uint8")
    y = np.array([[4], [5]])
    np.savez(tmp_path / "c.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    loaded = load_dataset("cifar10", tmp_path / "c.npz")
    assert loaded.train[1].tolist() == [4, 5]
    np.savez(tmp_path / "other.npz", images=x)
    with pytest.raises(ValueError, match="with images"):
        load_dataset("cifar10", tmp_path / "other.npz")


def test_no_network_and_no_path(monkeypatch):
    def load_data():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    with pytest.raises(ConnectionError, match="--data PATH"):
        load_dataset("cifar10")


def test_path_with_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_dataset("cifar10", tmp_path / "nowhere")


def test_unknown_name_offers_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        load_dataset("cifar100")

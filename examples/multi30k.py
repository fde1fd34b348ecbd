"""Multi30k's files: from a path, or downloaded once."""

import gzip
import pathlib

import keras

NAMES = {"train": "train", "val": "val", "test": "test_2016_flickr"}
URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"
)


def load_multi30k(language, path=None, split="train"):
    """Return the sentences of a split, one string each.

    Args:
        language: `"en"` or `"de"`.
        path: folder with the authors' `train.en.gz` and so on; `None`
            downloads them to Keras' cache.
        split: `"train"`, `"val"` or `"test"`.
    """
    name = f"{NAMES[split]}.{language}.gz"
    if path is None:
        file = keras.utils.get_file(
            name, URL + name, cache_subdir="datasets/multi30k", extract=False
        )
    else:
        file = pathlib.Path(path) / name
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [line.strip() for line in lines]

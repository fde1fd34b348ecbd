"""Attention put into a network with published ImageNet weights.

Claim: CBAM, SE and ECA go into every residual branch of a pretrained network
with `preserve_outputs=True`, the network gives the same probabilities as
before, to the bit, and from there the attention alone can be trained.

    pip install "keras-attention-layers[tensorflow-cpu,examples]"
    python examples/insert_into_pretrained.py

`--figure photographs.png` writes what the network attends to instead.

Time: 2 to 6 minutes on two CPU cores. Result:

    EfficientNet-Lite0, 4,694,024 parameters
      coffee  espresso  0.9374
      rocket  missile   0.1927
      china   palace    0.3016
    cbam: 9 layers, 20,782 parameters
      same probabilities, to the bit: True
      other crops, loss: 1.935, 1.634 after training
    squeeze_excite: 9 layers, 19,864 parameters
      same probabilities, to the bit: True
      other crops, loss: 1.935, 1.426 after training
    eca: 9 layers, 42 parameters
      same probabilities, to the bit: True
      other crops, loss: 1.935, 1.830 after training
"""

import argparse

import keras
import numpy as np
from efficientnet_lite0 import SIZE
from efficientnet_lite0 import efficientnet_lite0
from skimage import data
from sklearn.datasets import load_sample_image

import keras_attention

# ImageNet's number and name of what each photograph shows.
EXPECTED = {
    "coffee": (967, "espresso"),
    "rocket": (657, "missile"),
    "china": (698, "palace"),
}


def photographs() -> dict[str, np.ndarray]:
    """The sample photographs, the largest square of their middle."""
    images = {
        "coffee": data.coffee(),
        "rocket": data.rocket(),
        "china": load_sample_image("china.jpg"),
    }
    return {name: crop(image) for name, image in images.items()}


def crop(image, part=1.0, place=(0.5, 0.5)):
    """A square of the image, as the network takes it.

    Args:
        part: its side, as a part of the shorter side.
        place: from 0 at the top and left to 1 at the bottom and right.
    """
    side = int(min(image.shape[:2]) * part)
    top, left = (
        int((length - side) * at)
        for length, at in zip(image.shape[:2], place, strict=True)
    )
    square = image[top : top + side, left : left + side].astype("float32")
    resized = keras.ops.image.resize(
        square, (SIZE, SIZE), "bicubic", antialias=True
    )
    pixels = np.clip(keras.ops.convert_to_numpy(resized), 0, 255)
    return (pixels - 127) / 128


def show(probabilities, names):
    for row, name in zip(probabilities, names, strict=True):
        best = int(row.argmax())
        number, word = EXPECTED[name]
        if best != number:
            raise SystemExit(f"{name}: class {best}, and not {number}")
        print(f"  {name:8}{word:10}{row[best]:.4f}")


def random_crops(count, seed):
    """Crops of the photographs with the classes of what they show."""
    random = np.random.default_rng(seed)
    originals = [data.coffee(), data.rocket(), load_sample_image("china.jpg")]
    chosen = random.integers(0, 3, count)
    x = [
        crop(originals[n], random.uniform(0.4, 0.8), random.uniform(0, 1, 2))
        for n in chosen
    ]
    numbers = [number for number, _ in EXPECTED.values()]
    return np.stack(x), np.take(numbers, chosen)


def draw(model, path):
    """Write a figure of what the network attends to, with its predictions."""
    from keras_attention.visualization import plot_attention_maps

    images = {**photographs(), "cat": crop(data.chelsea())}
    class_names = [str(number) for number in range(1000)]
    for number, word in (*EXPECTED.values(), (285, "Egyptian cat")):
        class_names[number] = word
    figure = plot_attention_maps(
        model,
        np.stack(list(images.values())),
        class_names=class_names,
        caption="Early stages respond to edges and textures, late ones to the "
        "object that the network names.",
    )
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Attention, pretrained.")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--crops", type=int, default=64)
    parser.add_argument("--figure", help="write the maps to this image only")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    model = efficientnet_lite0()
    images = photographs()
    x = np.stack(list(images.values()))
    before = np.asarray(model(x))
    print(f"EfficientNet-Lite0, {model.count_params():,} parameters")
    show(before, images)
    if options.figure:
        draw(model, options.figure)
        return

    model.trainable = False  # The attention alone is to learn.
    train, test = (random_crops(options.crops, seed) for seed in (1, 2))
    for name in ("cbam", "squeeze_excite", "eca"):
        attended = keras_attention.insert_attention(
            model, name, at="residual", preserve_outputs=True
        )
        report = keras_attention.insertion_report(model, attended)
        added = report.parameters_after - report.parameters_before
        same = np.array_equal(attended(x), before)
        print(f"{name}: {len(report.layers)} layers, {added:,} parameters")
        print(f"  same probabilities, to the bit: {same}")
        attended.compile(
            keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy"
        )
        start = attended.evaluate(*test, verbose=0)
        epochs = -(-options.steps // -(-options.crops // 16))
        attended.fit(*train, batch_size=16, epochs=epochs, verbose=0)
        end = attended.evaluate(*test, verbose=0)
        print(f"  other crops, loss: {start:.3f}, {end:.3f} after training")
        if not same or not end < start:
            raise SystemExit("not as claimed")


if __name__ == "__main__":
    main()

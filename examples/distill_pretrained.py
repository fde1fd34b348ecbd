"""A small student learns from a network with published ImageNet weights.

Claim: without one label, a student with a thirtieth of the parameters learns
the predictions of EfficientNet-Lite0 and where it attends; the teacher runs
once for each image and is not needed during training.

    pip install "keras-attention-layers[tensorflow-cpu,examples]"
    python examples/distill_pretrained.py

The images are random crops, 64x64, of six sample photographs; the teacher
is shown them at 224x224. Two students of equal start learn from the teacher's
1,000 probabilities (KD), one of them from its attention maps too (KD+AT). Both
are judged on other crops of the same photographs: how often they name the
class that the teacher names, and the distances that they were trained to
lower. With so few photographs the student does not generalize to others: this
example shows the method, not a useful model.

Result, one seed, 6 minutes on two cores shared with other work: the teacher
took 11 s for 500 crops, once. On 125 other crops

    KD     48.8% the teacher's class, divergence 0.46, distance of maps 0.39
    KD+AT  51.2% the teacher's class, divergence 0.47, distance of maps 0.06

so the student learns the teacher's attention maps; its predictions are as
close with the maps as without, as far as 125 crops can tell.
"""

import argparse
import time

import keras
import numpy as np
from efficientnet_lite0 import efficientnet_lite0
from skimage import data
from sklearn.datasets import load_sample_image

from keras_attention import AttentionTransferModel
from keras_attention.distillation import AttentionTransferLoss
from keras_attention.distillation import distillation_distance
from keras_attention.distillation import precompute_teacher
from keras_attention.models import WideResNet

SIZE = 64
BETA = 1e3
# The ends of the student's groups, and the teacher's of like parts of its
# depth; maps of 64, 32 and 16 are compared at 56, 28 and 14.
PAIRS = [
    ("stage1", "_blocks.2.add"),
    ("stage2", "_blocks.4.add"),
    ("stage3", "_blocks.10.add"),
]


def random_crops(count, seed):
    """Squares of the photographs, of all sizes from a third up, as pixels."""
    photographs = [
        data.astronaut(),
        data.chelsea(),
        data.coffee(),
        data.rocket(),
        load_sample_image("china.jpg"),
        load_sample_image("flower.jpg"),
    ]
    random = np.random.default_rng(seed)
    crops = []
    for _ in range(count):
        image = photographs[random.integers(len(photographs))]
        side = int(min(image.shape[:2]) * random.uniform(0.33, 1))
        top, left = (random.integers(n - side + 1) for n in image.shape[:2])
        square = image[top : top + side, left : left + side]
        small = keras.ops.image.resize(
            square.astype("float32"), (SIZE, SIZE), antialias=True
        )
        crops.append(keras.ops.convert_to_numpy(small))
    return (np.stack(crops) - 127) / 128


def watched(model, layers, x):
    """Activations of some layers, then probabilities."""
    outputs = [*(model.get_layer(name).output for name in layers), model.output]
    return keras.Model(model.input, outputs).predict(x, verbose=0)


def train(cached, beta, epochs):
    """Train a student on cached teacher outputs; return it and the seconds."""
    keras.utils.set_random_seed(0)
    student = WideResNet(10, 1, input_shape=(SIZE, SIZE, 3), classes=1000)
    model = AttentionTransferModel(
        student, None, PAIRS, alpha=1.0, temperature=2.0, beta=beta
    )
    steps = epochs * cached.num_batches
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(rate))
    start = time.perf_counter()
    model.fit(cached, epochs=epochs)
    return student, time.perf_counter() - start


def judge(found, expected):
    """Agreement in percent, divergence, and the mean distance of maps."""
    *activations, student = found
    *others, teacher = expected
    agreement = 100 * np.mean(student.argmax(-1) == teacher.argmax(-1))
    divergence = distillation_distance(
        *(np.log(np.maximum(x, 1e-37)) for x in (student, teacher)), 1.0
    )
    loss = AttentionTransferLoss(distance="sum")
    distances = [
        float(loss(theirs, own))
        for own, theirs in zip(activations, others, strict=True)
    ]
    return agreement, float(keras.ops.mean(divergence)), np.mean(distances)


def main(arguments=None):
    """Print a row for each student, and return the rows."""
    parser = argparse.ArgumentParser(description="A pretrained teacher.")
    parser.add_argument("--crops", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args(arguments)
    teacher = efficientnet_lite0()
    crops = random_crops(options.crops, seed=1)
    start = time.perf_counter()
    cached = precompute_teacher(teacher, crops, PAIRS, logits=True, seed=0)
    print(f"The teacher took {time.perf_counter() - start:.0f} s, once")
    unseen = random_crops(max(options.crops // 4, 8), seed=2)
    large = keras.ops.image.resize(unseen, teacher.input_shape[1:3])
    expected = watched(teacher, [theirs for _, theirs in PAIRS], large)
    rows = [
        [
            "student",
            "the teacher's class, %",
            "divergence of the predictions",
            "distance of the maps",
            "seconds",
        ]
    ]
    for name, beta in (("KD", 0.0), ("KD+AT", BETA)):
        student, seconds = train(cached, beta, options.epochs)
        found = watched(student, [own for own, _ in PAIRS], unseen)
        agreement, divergence, distance = judge(found, expected)
        rows.append(
            [name, f"{agreement:.1f}", f"{divergence:.2f}"]
            + [f"{distance:.2f}", f"{seconds:.0f}"]
        )
    for row in rows:
        print(" | ".join(row))
    print(
        f"Parameters: {student.count_params():,} and "
        f"{teacher.count_params():,} of the teacher"
    )
    return rows


if __name__ == "__main__":
    main()

"""What the demo trains on each data set, and how the settings were chosen.

They were chosen on validation images, which `load_images` holds out of the
training images, and never on the test images. On digits, 447 of the 1,347
training images, with teachers of 99.3 and 99.6 % on them (accuracy in %, mean
with 95 % interval over the seeds; difference to the student alone, by seed):

    8x8 images, 50 labels       attention maps gave nothing
    32x32 images, 50 labels     the seeds differed by 4 points
    16x16 images, 200 steps, 4 seeds:
    labels  shift   alone        KD           attention     KD + attention
    50      none    79.3 ± 2.9   +2.0 ± 2.1   +0.7 ± 3.3    +3.3 ± 1.5
    50      1, edge 88.6 ± 3.9   +3.2 ± 2.2   +0.4 ± 1.7    +3.5 ± 2.0
    20      1, edge 72.0 ± 7.6   +5.6 ± 4.1   +0.4 ± 3.9    +6.2 ± 3.6
    50      1, reflected, attention in the teacher, 5 seeds:
                    91.4 ± 1.3   +3.9 ± 1.1   +1.1 ± 1.2    +4.7 ± 1.3
    the same in 150 steps, 200 of the teacher:
                    91.0 ± 2.6   +3.1 ± 1.3   -0.1 ± 3.5    +3.7 ± 2.0
    the same in 200 steps of 24 and of 16 images, 5 seeds:
                    91.1 ± 2.2   +4.0 ± 2.6   +1.2 ± 2.1    +5.3 ± 1.7
                    91.6 ± 1.5   +3.1 ± 1.8   +1.0 ± 2.5    +3.9 ± 1.0
    with 850 unlabeled images as well, 24 and 16 images:
                                 +8.1 ± 2.0   +1.7 ± 1.8    +8.1 ± 2.4
                                 +7.1 ± 1.7   -0.5 ± 1.7    +6.8 ± 1.1
    24 images of 12x12 pixels, without and with the unlabeled ones:
                    91.2 ± 2.7   +3.6 ± 1.2   -0.8 ± 0.8    +2.7 ± 1.5
                                 +7.6 ± 2.6   +0.8 ± 2.2    +7.3 ± 2.5

Fewer steps cost the attention maps most, then fewer images in a step: 200
steps of 24 images are taken.

A `beta` four times as large lost 0.3 points to the student alone without
shifts and 4.4 with them. Digits on crops of photographs needed longer
trainings than three minutes allow. The settings of fashion-mnist and cifar10
were not searched: the first are those of digits with 32 images in a step, the
second those of `examples/few_labels_cifar10.py` with 10 labels a class and a
shorter training of the teacher.
"""

from dataclasses import dataclass

# Hinton's weight and temperature of the teacher's outputs.
KD = {"alpha": 0.9, "temperature": 4.0}


@dataclass(frozen=True)
class Setting:
    """Networks, data and length of the trainings of one data set.

    Attributes:
        teacher: depth and width of the teacher, a wide residual network.
        student: the same of the student.
        image_size: height and width that the images are resized to.
        labels_per_class: labeled images of each class the student has.
        unlabeled: whether the second table, with the teacher's other
            training images as unlabeled ones, is measured too.
        teacher_steps: updates of the teacher, of 64 images each.
        steps: updates of each student.
        batch_size: images of an update of the student.
        learning_rate: the highest one.
        optimizer: `"adam"`, with cosine decay; or `"sgd"`, with Nesterov
            momentum, its highest rate after a fifth of the steps.
        weight_decay: Weight decay of all kernels, as twice the factor of an L2
            penalty.
        shift: pixels by which training images are moved at most.
        flip: whether training images are mirrored at random.
        validation: images held out of the training images. Settings were
            compared on these, and `--validation` reports their accuracy.
        seeds: default number of seeds.
    """

    teacher: tuple[int, int]
    student: tuple[int, int]
    image_size: int
    labels_per_class: int
    teacher_steps: int
    steps: int
    batch_size: int = 32
    learning_rate: float = 3e-3
    optimizer: str = "adam"
    weight_decay: float = 0.0
    shift: int = 1
    flip: bool = False
    unlabeled: bool = True
    validation: int = 447
    seeds: int = 5


ALONE, BOTH = "student alone", "KD + attention"
# What each row passes to `AttentionTransferModel`. The weight of the attention
# maps is the default one, which does not depend on the size of the images.
ROWS = {
    ALONE: None,
    "KD": {"beta": 0.0, **KD},
    "attention": {},
    BOTH: KD,
}

SETTINGS = {
    "digits": Setting(
        teacher=(16, 1),
        student=(10, 1),
        image_size=16,
        labels_per_class=5,
        teacher_steps=200,
        steps=200,
        batch_size=24,
    ),
    "fashion-mnist": Setting(
        teacher=(16, 1),
        student=(10, 1),
        image_size=16,
        labels_per_class=10,
        teacher_steps=400,
        steps=200,
        flip=True,
        unlabeled=False,
        validation=5000,
    ),
    "cifar10": Setting(
        teacher=(16, 2),
        student=(16, 1),
        image_size=32,
        labels_per_class=10,
        teacher_steps=3000,
        steps=600,
        batch_size=64,
        learning_rate=0.1,
        optimizer="sgd",
        weight_decay=5e-5,
        shift=4,
        flip=True,
        unlabeled=False,
        validation=5000,
        seeds=2,
    ),
}
FAST = Setting(
    teacher=(10, 1),
    student=(10, 1),
    image_size=8,
    labels_per_class=2,
    teacher_steps=4,
    steps=2,
    seeds=2,
)

ADVICE = """\
Which one to take:
- Few labels: both parts, KD + attention, and KD to compare. The more there is
  to see in the images, the more the maps add: on CIFAR-10 with 10 images of
  each class (--dataset cifar10), 29 % alone, 37 % with KD, 48 % with attention,
  61 % with both. On small images of clothes (--dataset fashion-mnist), 69,
  74, 68 and 72 %: KD.
- Few labels and many other images: KD, to which the maps add little there.
- A teacher with other classes, or without outputs: attention.
- All labels: train the student alone first; little may be left to gain."""

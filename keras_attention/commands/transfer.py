"""`keras-attention transfer`: a saved student learns from a saved teacher."""

import math
import pathlib
from typing import Any

import click

from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json
from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import load_model
from keras_attention.commands.pixels import PIXELS
from keras_attention.commands.pixels import check_same_pixels
from keras_attention.commands.pixels import echo_pixels
from keras_attention.commands.pixels import pixels_json
from keras_attention.commands.save import check_out
from keras_attention.commands.save import save_model

# Of each optimizer: its class in keras.optimizers and its learning rate.
OPTIMIZERS = {
    "sgd": ("SGD", 0.1),
    "adam": ("Adam", 1e-3),
    "adamw": ("AdamW", 1e-3),
    "rmsprop": ("RMSprop", 1e-3),
}
DECAYS = click.Choice(["constant", "linear", "cosine"])


@click.command()
@click.argument("student", metavar="STUDENT.keras")
@click.argument("teacher", metavar="TEACHER.keras")
@click.argument("data", metavar="DATA")
@click.option("--out", metavar="NEW.keras", required=True)
@click.option("--overwrite", is_flag=True, help="Replace NEW.keras.")
@click.option(
    "--validation", metavar="DATA", help="Images to validate with, as DATA."
)
@click.option(
    "--validation-split",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Part of DATA to validate with instead, as 0.1.",
)
@click.option(
    "--unlabeled",
    metavar="DATA",
    help="Images without labels, half of each batch, for which the student "
    "learns the teacher's maps and predictions: a folder of images, whose "
    "folders do not matter, or an .npz file with x_train.",
)
@PIXELS
@click.option(
    "--image-size", metavar="H,W", help="For a student that takes any size."
)
@click.option(
    "--pairs",
    type=click.Choice(["blocks", "groups", "scores"]),
    help="Which layers are compared.  [default: blocks if both models have "
    "as many, else groups]",
)
@click.option(
    "--pair",
    "named",
    metavar="STUDENT[=TEACHER]",
    multiple=True,
    help="Names of layers that are compared instead; may be repeated.",
)
@click.option(
    "--pair-weight",
    "pair_weights",
    type=float,
    multiple=True,
    help="Factor of each pair, in their order; repeated for each.",
)
@click.option(
    "--beta",
    type=float,
    help="Weight of the attention maps; 0 for distillation alone.  [default: "
    "one that does not depend on the size of the images]",
)
@click.option(
    "--beta-decay",
    type=DECAYS,
    default="constant",
    show_default=True,
    help="How beta falls to 0 by the last step.",
)
@click.option(
    "--power", type=float, default=2.0, show_default=True, help="p of |A|^p."
)
@click.option(
    "--map-function",
    type=click.Choice(["sum", "max"]),
    default="sum",
    show_default=True,
    help="Over the channels.",
)
@click.option(
    "--reduction",
    type=click.Choice(["mean", "sum", "paper", "scale_free"]),
    help="What --beta multiplies: see AttentionTransferModel.  [default: mean]",
)
@click.option(
    "--alpha",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of the teacher's predictions; Hinton's is 0.9.",
)
@click.option(
    "--alpha-decay",
    type=DECAYS,
    default="constant",
    show_default=True,
    help="How alpha falls to 0 by the last step.",
)
@click.option(
    "--temperature",
    type=float,
    default=4.0,
    show_default=True,
    help="T of the softened predictions.",
)
@click.option(
    "--logits",
    metavar="STUDENT[=TEACHER]",
    help="Layers that have the logits, if not the outputs.",
)
@click.option(
    "--gradient-transfer",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of the gradients at the image.",
)
@click.option(
    "--symmetry",
    type=float,
    default=0.0,
    show_default=True,
    help="Weight of the gradients at the flipped image.",
)
@click.option(
    "--precompute",
    metavar="FILE",
    help="Run the teacher once and keep its maps in FILE; one that exists is "
    "used. DATA is then held in memory.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    help="[default: 10, or more for few images, so that there are 600 steps]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="[default: 128, or less for few images, so that an epoch has ten "
    "steps]",
)
@click.option(
    "--optimizer",
    type=click.Choice(list(OPTIMIZERS)),
    default="sgd",
    show_default=True,
)
@click.option(
    "--learning-rate",
    type=float,
    help="[default: 0.1 for sgd, in proportion to batches below 128; 0.001 "
    "for the others]",
)
@click.option(
    "--learning-rate-decay", type=DECAYS, default="cosine", show_default=True
)
@click.option(
    "--momentum", type=float, default=0.9, show_default=True, help="Of sgd."
)
@click.option("--weight-decay", type=float, help="Of the optimizer.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
)
@click.option(
    "--backup",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Keep the state of each epoch there; a run that was interrupted goes "
    "on from it.",
)
@click.option(
    "--compare-alone",
    is_flag=True,
    help="Train a copy of the student with the labels alone too, and compare "
    "both on the images of --validation or --validation-split.",
)
@IMPORTED
@JSON
def transfer(**options: Any) -> None:
    """Have a saved student learn from the attention of a saved teacher.

    DATA is a folder with one folder of images for each class, or an .npz
    file with x_train and y_train: images and integer labels. 8-bit images
    are scaled to the range that the student takes; floats are taken as they
    are. The classes are numbered in the alphabetical order of their folders,
    one for each class of the student; that of a class without images is empty.
    Train the teacher first; the student may be untrained. Where labels are
    few, --unlabeled adds what the teacher knows of more images.

    \b
    Example: keras-attention transfer student.keras teacher.keras photos/ \\
      --validation-split 0.1 --epochs 30 --out distilled.keras
    """
    _transfer(options)


def _transfer(options: dict[str, Any]) -> None:
    import keras

    from keras_attention.commands.image_data import ImageFormat
    from keras_attention.commands.training_data import load_training_data

    out = pathlib.Path(options["out"])
    check_out(out, options["overwrite"])
    _check_pairs(options)
    _check_comparison(options)
    _check_unlabeled(options)
    size = _size(options["image_size"])
    _learning_rate(options)
    _check_optimizer(options)
    keras.utils.set_random_seed(options["seed"])
    student = load_model(options["student"], options["imported"])
    teacher = load_model(options["teacher"], options["imported"])
    form = ImageFormat.of_model(student, options["pixels"], size)
    check_same_pixels(form.pixels, [teacher], options["pixels"])
    data = load_training_data(options, student, form)
    batch_size = options["batch_size"] = data.batch_size
    rate = _learning_rate(options)
    options["epochs"] = options["epochs"] or _epochs(data.steps)
    steps = data.steps * options["epochs"]
    model, training = _model(options, student, teacher, data.training, steps)
    alone = None
    if options["compare_alone"]:
        alone = keras.models.clone_model(student)
        alone.set_weights(student.get_weights())
    for each in filter(None, (model, alone)):
        each.compile(
            _optimizer(options, rate, steps),
            loss=data.loss,
            metrics=data.new_metrics(),
        )
    as_json = options["as_json"]
    if not as_json:
        echo_pixels(form.pixels)
        click.echo(
            f"{data.description} in batches of {batch_size}: {data.steps} "
            f"steps an epoch, {steps} in all, learning rate {rate:g}"
        )
        click.echo(f"{model.pairs}\n" if model.pairs else "No maps compared.\n")
        if alone is not None:
            click.echo("The student alone:")
    accuracy_alone = _train_alone(alone, data, options)
    if not as_json and alone is not None:
        click.echo("The student with the teacher:")
    before = _accuracy(model, data.validation, options)
    backup = options["backup"]
    history = model.fit(
        **_fit_arguments(training, batch_size),
        epochs=options["epochs"],
        validation_data=data.validation,
        validation_batch_size=_batch(data.validation, options),
        callbacks=[keras.callbacks.BackupAndRestore(backup)] if backup else [],
        # A folder of images shuffles by itself.
        shuffle=isinstance(training, tuple) or None,
        verbose=0 if as_json else "auto",
    ).history
    after = _accuracy(model, data.validation, options)
    save_model(student, out, options["overwrite"], form.pixels)
    if as_json:
        echo_json(
            {
                "pairs": [
                    [p.student, p.teacher, p.weight] for p in model.pairs
                ],
                "history": {
                    key: [float(value) for value in values]
                    for key, values in history.items()
                },
                "validation_accuracy": {
                    "before": before,
                    "after": after,
                    "alone": accuracy_alone,
                },
                "pixels": pixels_json(form.pixels),
                "batch_size": batch_size,
                "epochs": options["epochs"],
                "out": str(out),
            }
        )
        return
    click.echo(_parts_table(history))
    if before is not None:
        alone = (
            ""
            if accuracy_alone is None
            else f", {accuracy_alone:.4f} with the labels alone"
        )
        click.echo(
            f"Validation accuracy: {before:.4f} before, {after:.4f} now{alone}"
        )
    click.echo(f"Written: {out}")


def _model(options, student, teacher, training, steps):
    """The model that trains the student, and what it is trained with."""
    from keras_attention.distillation import AttentionTransferModel
    from keras_attention.distillation import precompute_teacher

    pairs = [_names(text) for text in options["named"]] or options["pairs"]
    logits = options["logits"] and _names(options["logits"])
    beta, reduction = options["beta"], options["reduction"]
    if beta is None and options["beta_decay"] != "constant":
        # From the default weight.
        beta, reduction = 1.0, reduction or "scale_free"
    arguments = {
        "pairs": pairs,
        "pair_weights": list(options["pair_weights"]) or None,
        "beta": _schedule(beta, options["beta_decay"], steps),
        "reduction": reduction,
        "alpha": _schedule(options["alpha"], options["alpha_decay"], steps),
        "logits": logits,
        **{
            name: options[name]
            for name in (
                "power",
                "map_function",
                "temperature",
                "gradient_transfer",
                "symmetry",
            )
        },
    }
    model = AttentionTransferModel(
        student=student, teacher=teacher, **arguments
    )
    if options["precompute"] is None:
        return model, training
    training = precompute_teacher(
        model,
        training,
        path=options["precompute"],
        batch_size=options["batch_size"],
        seed=options["seed"],
        verbose=not options["as_json"],
    )
    return model, training


def _check_unlabeled(options):
    if not options["unlabeled"]:
        return
    if options["precompute"] is not None:
        raise ValueError(
            "--unlabeled draws other batches in each epoch, which "
            "--precompute cannot keep. Received: both. Leave out one."
        )
    if options["batch_size"] == 1:
        raise ValueError(
            "Half of each batch is of --unlabeled: it must have 2 images at "
            "least. Received: --batch-size 1"
        )


def _check_optimizer(options):
    from keras_attention.validation import check_number

    check_number("momentum", options["momentum"], 0, 1)
    if options["weight_decay"] is not None:
        check_number("weight_decay", options["weight_decay"], 0)


def _check_comparison(options):
    if options["compare_alone"] and not (
        options["validation"] or options["validation_split"]
    ):
        raise ValueError(
            "--compare-alone compares accuracies on images that are not "
            "trained on. Received: neither --validation nor "
            "--validation-split. Add one, such as --validation-split 0.1."
        )


def _train_alone(alone, data, options):
    """Train a student with the labels alone; return its accuracy."""
    if alone is None:
        return None
    training = data.training_alone
    alone.fit(
        **_fit_arguments(training, options["batch_size"]),
        epochs=options["epochs"],
        shuffle=isinstance(training, tuple) or None,
        verbose=0 if options["as_json"] else "auto",
    )
    return _accuracy(alone, data.validation, options)


def _parts_table(history):
    """The parts of the loss in the first and the last epoch."""
    names = [name for name in history if name.endswith("_loss")]
    names = [name for name in names if not name.startswith("val_")]
    rows = [
        f"  {name:22}{history[name][0]:>12.4g}{history[name][-1]:>12.4g}"
        for name in [*names, "loss"]
    ]
    head = f"{'Parts of the loss':24}{'first epoch':>12}{'last':>12}"
    return "\n".join([head, *rows])


def _epochs(steps_per_epoch):
    """10, or as many as make 600 steps.

    A student that is distilled falls behind one that has the labels alone at
    first, and passes it later.
    """
    return max(10, math.ceil(600 / steps_per_epoch))


def _check_pairs(options):
    if options["named"] and options["pairs"]:
        raise ValueError(
            "The pairs are told by one of --pairs and --pair. Received: "
            f"--pairs {options['pairs']} and --pair {options['named'][0]}"
        )


def _names(text):
    """`("a", "b")` of `"a=b"`; `("a", "a")` of `"a"`."""
    student, _, teacher = text.partition("=")
    if not student:
        raise ValueError(
            "Layers are named as STUDENT or STUDENT=TEACHER. "
            f"Received: {text!r}"
        )
    return student, teacher or student


def _size(text):
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(p.isdecimal() and int(p) for p in parts):
        raise ValueError(
            "`--image-size` must be two positive integers with a comma "
            f"between, such as 64,64. Received: --image-size {text}"
        )
    return tuple(map(int, parts))


def _schedule(value, decay, steps):
    """A number, or a schedule that takes it to 0 in as many steps."""
    import keras

    if decay == "constant" or not value:
        return value
    if decay == "linear":
        return keras.optimizers.schedules.PolynomialDecay(value, steps, 0.0)
    return keras.optimizers.schedules.CosineDecay(value, steps)


def _learning_rate(options):
    _, rate = OPTIMIZERS[options["optimizer"]]
    if options["learning_rate"] is not None:
        rate = options["learning_rate"]
    elif options["optimizer"] == "sgd":
        # The recipe's rate is that of batches of 128. Smaller ones have
        # noisier gradients; Adam and its like divide by their size.
        rate *= min(1, (options["batch_size"] or 128) / 128)
    if not rate > 0 or not math.isfinite(rate):
        raise ValueError(
            "`--learning-rate` must be a positive number. "
            f"Received: --learning-rate {rate}"
        )
    return rate


def _optimizer(options, rate, steps):
    import keras

    name, _ = OPTIMIZERS[options["optimizer"]]
    rate = _schedule(rate, options["learning_rate_decay"], steps)
    arguments = {}
    if name == "SGD":
        arguments["momentum"] = options["momentum"]
    if options["weight_decay"] is not None:
        arguments["weight_decay"] = options["weight_decay"]
    return getattr(keras.optimizers, name)(rate, **arguments)


def _accuracy(model, validation, options):
    if validation is None:
        return None
    arguments = _fit_arguments(validation, options["batch_size"])
    found = model.evaluate(**arguments, verbose=0, return_dict=True)
    return float(found["accuracy"])


def _batch(data, options):
    return options["batch_size"] if isinstance(data, tuple) else None


def _fit_arguments(data, batch_size):
    """Arrays, or batches, as `fit` and `evaluate` take them."""
    if isinstance(data, tuple):
        return {"x": data[0], "y": data[1], "batch_size": batch_size}
    return {"x": data}

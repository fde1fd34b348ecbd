"""Does attention carry agreement further, and tell word senses better?

    python examples/why_self_attention.py --fast
    python examples/why_self_attention.py

Tang et al. 2018 (arXiv:1808.08946) trained a recurrent, a convolutional and a
self-attention network on the same translations. Self-attention was no better
than the recurrent network at the agreement of subject and verb over long
distances, and much better at word senses. This asks both questions of small
language models on generated sentences: it is synthetic and small, and no
reproduction.

Five mixers stand in the same network. The width of a block's feed-forward
layer makes up for the mixer's size, so that all have the same number of
parameters to about a percent. Every seed draws other held-out nouns, other
sentences and other weights. Convolutions see as far back as their kernels
reach: 1 + the sum of the kernel sizes less one.

No result is recorded here yet: that needs a machine with more time.
"""

import argparse
import logging
import pathlib
import statistics
import time
from collections import defaultdict

import keras

from keras_attention.evaluation import AgreementGrammar
from keras_attention.evaluation import ContrastiveScorer
from keras_attention.evaluation import WordSenseGrammar
from keras_attention.models import TransformerLanguageModel
from keras_attention.visualization import plot_accuracy_by_distance

MIXERS = ("attention", "lightweight", "dynamic", "convolution", "lstm")
# Student's t at 97.5%, for the interval of a mean over 2, 3, ... seeds.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
DISTANCES = (0, 3, 6, 8, 10, 12, 16, 20)
TRAINED = 8


def network(mixer, vocabulary_size, settings, feed_forward_dim):
    """A language model; kernels of heads grow, those of full ones do not."""
    arguments, kernels = None, (3, 7, 15, 31)[: settings.blocks]
    if mixer == "convolution":
        # Few filters with long kernels: in depth they reach all distances.
        arguments = {"filters": settings.width // 4}
        kernels = (9,) * settings.blocks
    return TransformerLanguageModel(
        vocabulary_size,
        mixer,
        width=settings.width,
        num_blocks=settings.blocks,
        num_heads=settings.heads,
        feed_forward_dim=feed_forward_dim,
        kernel_sizes=kernels,
        mixer_arguments=arguments,
        dropout=0.0,
    )


def matched(mixer, vocabulary_size, settings):
    """A network with the parameters of attention's, by its hidden layer."""
    sizes = {}
    for name in {"attention", mixer}:
        model = network(name, vocabulary_size, settings, 1)
        model.build((None, None))
        sizes[name] = model.count_params()
    hidden = 4 * settings.width
    spare = (sizes["attention"] - sizes[mixer]) / settings.blocks
    # A hidden unit more costs 2 * width + 1 parameters in each block.
    hidden += round(spare / (2 * settings.width + 1))
    return network(mixer, vocabulary_size, settings, hidden)


def train(mixer, grammar, settings):
    """Train on the grammar's sentences; return the model and its loss."""
    model = matched(mixer, len(grammar.vocabulary), settings)
    x, y = grammar.training_data(settings.sentences)
    epochs = max(1, round(settings.steps * settings.batch / len(x)))
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.rate, epochs * len(x) // settings.batch
    )
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=0
        ),
        jit_compile=False,
    )
    history = model.fit(
        x, y, batch_size=settings.batch, epochs=epochs, verbose=0
    )
    return model, history.history["loss"][-1]


def suites(seed, count):
    """Each suite's grammar and items, of nouns and pairs held out."""
    agreement, senses = (
        grammar(trained_distance=TRAINED, seed=seed)
        for grammar in (AgreementGrammar, WordSenseGrammar)
    )
    return {
        "agreement": (agreement, agreement.items(DISTANCES, count=count)),
        "senses": (senses, senses.items(DISTANCES, count=2 * count)),
    }


def interval(values):
    """Mean and half of its confidence interval over seeds, in percent."""
    mean = 100 * statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    t = STUDENT[min(len(values), len(STUDENT) + 1) - 2]
    half = t * 100 * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ± {half:.1f}"


def inside(results, trained):
    """Accuracy at distances inside or beyond those of training."""
    found = [
        decision.correct
        for decision in results.decisions
        if (decision.metadata["distance"] <= TRAINED) == trained
    ]
    return sum(found) / len(found)


def report(suite, rows, losses, sizes):
    """Print a suite's tables: in total, and by what makes it hard."""
    key = "attractors" if suite == "agreement" else "frequency"
    groups = list(next(iter(rows.values()))[0].by(key))
    print(f"\n## {suite}: accuracy in %, mean and 95% interval over seeds\n")
    head = ["", "all", f"distance <= {TRAINED}", f"> {TRAINED}"]
    head += [f"{key} {group}" for group in groups] + ["loss", "parameters"]
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for name, results in rows.items():
        cells = [
            interval([r.accuracy.value for r in results]),
            interval([inside(r, True) for r in results]),
            interval([inside(r, False) for r in results]),
        ]
        cells += [
            interval([r.by(key)[group].value for r in results])
            for group in groups
        ]
        loss = f"{statistics.mean(losses[name]):.3f}" if name in losses else ""
        cells += [loss, f"{sizes[name]:,}" if name in sizes else ""]
        print("| " + " | ".join([name, *cells]) + " |")


def by_distance(results):
    """For each distance the accuracy of each seed."""
    lines = defaultdict(list)
    for result in results:
        for distance, accuracy in result.by("distance").items():
            lines[distance].append(accuracy.value)
    return dict(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="a small setting")
    parser.add_argument("--seeds", type=int, help="runs of everything")
    parser.add_argument("--steps", type=int, help="of training")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--mixers", nargs="+", default=MIXERS, choices=MIXERS)
    parser.add_argument("--out", default="why_self_attention.png")
    settings = parser.parse_args()
    small = settings.fast
    settings.seeds = settings.seeds or (2 if small else 5)
    settings.steps = settings.steps or (600 if small else 2000)
    settings.width, settings.blocks = (32, 2) if small else (64, 3)
    settings.batch = 256
    settings.sentences = 16_000 if small else 64_000
    settings.rate = 4e-3 if small else 2e-3
    count = 20 if small else 50

    # TensorFlow counts the graphs of all models as if they were of one.
    logging.getLogger("tensorflow").setLevel("ERROR")
    started = time.time()
    losses = {"agreement": defaultdict(list), "senses": defaultdict(list)}
    rows = {"agreement": defaultdict(list), "senses": defaultdict(list)}
    rules, sizes = {"agreement": {}, "senses": {}}, {}
    for seed in range(settings.seeds):
        for suite, (grammar, items) in suites(seed, count).items():
            for name, results in grammar.baselines(items).items():
                rules[suite].setdefault(name, []).append(results)
            for mixer in settings.mixers:
                keras.utils.set_random_seed(seed)
                begun = time.time()
                model, loss = train(mixer, grammar, settings)
                scorer = ContrastiveScorer(
                    model, grammar.vocabulary, batch_size=256
                )
                results = scorer.evaluate(items, verbose=0)
                rows[suite][mixer].append(results)
                losses[suite][mixer].append(loss)
                sizes[mixer] = model.count_params()
                print(
                    f"seed {seed}  {suite:9}  {mixer:11}  loss {loss:.3f}  "
                    f"{results}  {time.time() - begun:.0f} s",
                    flush=True,
                )
    for suite in rows:
        report(suite, {**rows[suite], **rules[suite]}, losses[suite], sizes)
    minutes = (time.time() - started) / 60
    print(
        f"\n{settings.seeds} seeds, {settings.steps} steps, {minutes:.0f} min"
    )
    draw(rows, rules, settings.out)


def draw(rows, rules, path):
    """Both suites side by side, one line a mixer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained", dpi=150)
    for axes, suite in zip(figure.subplots(1, 2), rows, strict=True):
        plot_accuracy_by_distance(
            {name: by_distance(found) for name, found in rows[suite].items()},
            trained=(0, TRAINED),
            baselines={
                name: {
                    distance: statistics.mean(values)
                    for distance, values in by_distance(found).items()
                }
                for name, found in rules[suite].items()
            },
            title={
                "agreement": "subject-verb agreement, held-out nouns",
                "senses": "word senses, held-out pairs",
            }[suite],
            axes=axes,
        )
    figure.savefig(path)
    print(f"drawn: {pathlib.Path(path).resolve()}")


if __name__ == "__main__":
    main()

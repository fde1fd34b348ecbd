"""`keras-attention evaluate`: a contrastive suite, scored and judged."""

from typing import Any

import click

from keras_attention.commands.json_output import JSON
from keras_attention.commands.json_output import echo_json
from keras_attention.commands.load import IMPORTED
from keras_attention.commands.load import load_model

# Of each suite: its reader, the keys that accuracy is shown by, whether it
# translates. Named by text, so that `--help` imports none of it.
SUITES = {
    "blimp": ("read_blimp", ("paradigm",), False),
    "marvin-linzen": ("read_marvin_linzen", ("paradigm",), False),
    "lingeval97": ("read_lingeval97", ("paradigm", "distance"), True),
    "contrawsd": ("read_contrawsd", ("frequency",), True),
}
BINS = {
    ("lingeval97", "distance"): "DISTANCE_BINS",
    ("lingeval97", "frequency"): "LINGEVAL97_FREQUENCY_BINS",
    ("contrawsd", "frequency"): "CONTRAWSD_FREQUENCY_BINS",
}


@click.command()
@click.option(
    "--suite",
    type=click.Choice(list(SUITES)),
    required=True,
    help="The suite; its files are available from its authors.",
)
@click.option(
    "--data",
    metavar="PATH",
    required=True,
    help="The suite's file; for blimp also a folder of them.",
)
@click.option("--model", metavar="FILE", help="A .keras file.")
@click.option(
    "--tokenizer",
    metavar="FILE",
    help="Of the model: a text file with one token per line, [PAD] first, then "
    "in the order of their IDs, with [UNK], [BOS] and [EOS] among them; "
    "or a .keras file of a model with a TextVectorization.",
)
@click.option(
    "--source-tokenizer",
    metavar="FILE",
    help="The same for the source sentences of a translation suite.",
)
@click.option(
    "--scores",
    metavar="FILE",
    help="Scores, one per line. With --model they are written there, and an "
    "interrupted run continues from it; without, they are evaluated.",
)
@click.option(
    "--costs", is_flag=True, help="Lower scores are better, in --scores FILE."
)
@click.option(
    "--unknown",
    type=click.Choice(["error", "skip", "keep"]),
    default="error",
    show_default=True,
    help="Items with words that the tokenizer lacks: stop; leave them out; "
    "or count them, the word replaced by [UNK].",
)
@click.option("--by", multiple=True, metavar="KEY", help="Group by this key.")
@click.option("--limit", type=int, help="Only the first items.")
@click.option("--batch-size", type=int, default=32, show_default=True)
@click.option(
    "--length-normalized", is_flag=True, help="Mean score of the tokens."
)
@IMPORTED
@JSON
def evaluate(
    suite: str, data: str, by: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Score a contrastive suite, such as BLiMP, with your model.

    A language model returns logits or log-probabilities of the next token;
    a translation model takes [source, target].

    \b
    Example: keras-attention evaluate --suite blimp --data blimp/ \\
      --model model.keras --tokenizer vocabulary.txt
    """
    from keras_attention import evaluation

    reader, keys, _ = SUITES[suite]
    items = getattr(evaluation, reader)(data)[: options["limit"]]
    results = _score(suite, items, options, verbose=not as_json)
    shown = by or [key for key in keys if key in results.keys]
    bins = {
        key: getattr(evaluation, BINS.get((suite, key), ""), None)
        for key in shown
    }
    if as_json:
        groups = {key: results.by(key, bins=bins[key]) for key in shown}
        echo_json(
            {
                "items": len(items),
                "left_out": results.left_out,
                "all": _numbers(results.accuracy),
                "by": {
                    key: {str(g): _numbers(a) for g, a in found.items()}
                    for key, found in groups.items()
                },
            }
        )
        return
    total = f"{len(items)} items"
    if results.left_out:
        total += f", {results.left_out} left out for unknown words"
    click.echo(total)
    click.echo(results.table())
    for key in shown:
        *groups, _ = reversed(results.table(key, bins=bins[key]).splitlines())
        click.echo("\n".join(["", *reversed(groups)]))


def _numbers(accuracy):
    return {
        "accuracy": accuracy.value,
        "correct": accuracy.correct,
        "total": accuracy.total,
    }


def _score(suite, items, options, verbose):
    """Score with the model, or evaluate the scores of a file."""
    from keras_attention import evaluation

    if options["model"] is None:
        if options["scores"] is None:
            raise click.UsageError(
                "Give --model and --tokenizer, or --scores with the scores of "
                "another system."
            )
        scores = evaluation.read_scores(
            options["scores"], items, options["costs"]
        )
        return evaluation.ContrastiveResults.from_scores(items, scores)
    needed = ["tokenizer"] + ["source_tokenizer"] * SUITES[suite][2]
    for name in needed:
        if options[name] is None:
            raise click.UsageError(
                f"--suite {suite} with --model needs "
                f"--{name.replace('_', '-')}."
            )
    tokenizers = [evaluation.load_tokenizer(options[name]) for name in needed]
    scorer = evaluation.ContrastiveScorer(
        load_model(options["model"], options["imported"]),
        *tokenizers,
        batch_size=options["batch_size"],
        length_normalized=options["length_normalized"],
        unknown=options["unknown"],
    )
    words = scorer.unknown_words(items)
    if words and options["unknown"] != "error":
        shown = ", ".join(word for word, _ in words.most_common(10))
        click.echo(
            f"{len(words)} words are unknown to the tokenizer, among them: "
            f"{shown}",
            err=True,
        )
    return scorer.evaluate(items, options["scores"], int(verbose))

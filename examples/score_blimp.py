"""A small language model on BLiMP's subject-verb agreement.

    python examples/score_blimp.py --blimp DIR --multi30k DIR

Trains a word-level language model on the English captions of Multi30k, or on
`--text FILE`, one sentence per line, and scores BLiMP's sets in `--blimp DIR`,
as `keras-attention evaluate --suite blimp` does with any model. The folder
and the vocabulary it writes can be given to that command.

The model is tiny and knows captions alone, most of them "A man is ...". Most
of BLiMP's words are unknown to it, so items are counted in two ways: all, the
unknown words replaced by one token, where a pair of two unknown verbs is a
tie, which is wrong; and those whose words it knows. What comes out says
something about the test, little about the mixer.

Result of `--sentences 20000 --epochs 3`, one seed, in 3.2 minutes on two CPU
cores: 683,232 parameters, a vocabulary of 4,785 tokens, a loss of 3.42 a token.

    set                                       all items   of known words
    distractor_agreement_relational_noun      25.2 %      3 of 10
    distractor_agreement_relative_clause      31.9 %      2 of 3
    irregular_plural_subject_verb_agreement_1 24.3 %      14 of 29
    irregular_plural_subject_verb_agreement_2 43.1 %      102 of 150
    regular_plural_subject_verb_agreement_1   36.1 %      18 of 40
    regular_plural_subject_verb_agreement_2   46.5 %      65 of 100
    all                                       34.5 %      204 of 332: 61.4 %

The interval of the last row's 61.4 % is [56.1, 66.5] %: better than a coin,
and not by much.
"""

import argparse
import pathlib
import time

import keras
from multi30k import load_multi30k

from keras_attention.evaluation import ContrastiveScorer
from keras_attention.evaluation import Vocabulary
from keras_attention.evaluation import language_model_data
from keras_attention.evaluation import read_blimp
from keras_attention.models import TransformerLanguageModel


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blimp", required=True, help="folder of .jsonl files")
    parser.add_argument("--multi30k", help="folder; None downloads")
    parser.add_argument("--text", help="other text, one sentence per line")
    parser.add_argument("--mixer", default="attention")
    parser.add_argument("--sentences", type=int, default=29_000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--out", default="blimp-output")
    parser.add_argument("--verbose", type=int, default=2)
    settings = parser.parse_args(arguments)
    started = time.time()
    keras.utils.set_random_seed(0)
    if settings.text:
        text = pathlib.Path(settings.text).read_text("utf-8")
        sentences = text.splitlines()[: settings.sentences]
    else:
        sentences = load_multi30k("en", settings.multi30k)
        sentences = sentences[: settings.sentences]
    # One sentence of Multi30k in 2,000 has more than 30 words.
    sentences = [s for s in sentences if len(s.split()) <= 30]
    vocabulary = Vocabulary.from_texts(sentences, min_count=2)
    x, y = language_model_data(vocabulary, sentences)
    model = TransformerLanguageModel(
        len(vocabulary),
        settings.mixer,
        width=settings.width,
        num_blocks=2,
        num_heads=4,
        feed_forward_dim=4 * settings.width,
        dropout=0.1,
        norm_first=True,
    )
    steps = settings.epochs * -(-len(x) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=2e-3, warmup_steps=steps // 10
    )
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=0
        ),
        jit_compile=False,
    )
    history = model.fit(
        x, y, batch_size=64, epochs=settings.epochs, verbose=settings.verbose
    ).history
    out = pathlib.Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.keras")
    vocabulary.save(out / "vocabulary.txt")
    scores = out / "blimp.scores"
    scores.unlink(missing_ok=True)  # of a model before this one

    items = read_blimp(settings.blimp)
    print(
        f"{len(sentences)} sentences, {len(vocabulary)} tokens, "
        f"{model.count_params():,} parameters, "
        f"loss {history['loss'][-1]:.2f} a token"
    )
    found = {}
    for unknown in ("keep", "skip"):
        scorer = ContrastiveScorer(
            model, vocabulary, batch_size=64, unknown=unknown
        )
        # The second time all scores are taken from the file.
        results = scorer.evaluate(items, scores, settings.verbose)
        found[unknown] = results
        print(f"\nitems with unknown words: {unknown}")
        print(results.table("paradigm"))
        print(f"left out: {results.left_out}")
    print(f"{(time.time() - started) / 60:.1f} min")
    return found


if __name__ == "__main__":
    main()

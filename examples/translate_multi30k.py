"""Five mixers translate Multi30k: BLEU, speed, and agreement on real text.

    python examples/translate_multi30k.py --data DIR
    KERAS_BACKEND=jax python examples/translate_multi30k.py --data DIR --whole

Needs the extra `translation`: sacrebleu for BLEU, and for the contrastive
pairs HanTa, a tagger, and ablaut and lemminflect, which inflect verbs of
German and of English.

The network is the IWSLT-like one of Wu et al. 2019 (arXiv:1901.10430) in
miniature, or with `--whole` in full, meant for a GPU. Tokens are lower-case
words seen at least twice, so BLEU is lower-cased and low: an unknown word
cannot be translated.

The contrastive pairs are made of the real test sentences, as Lingeval97's
are: where the tagger finds a finite verb that is the third person singular or
plural by the dictionary, its number is flipped. Sentences have no
parse, so there is no distance; accuracy is by the number of the verb.

A short run, `--sentences 6000 --epochs 4 --test 200 --width 96`, English to
German, 8 minutes on two cores (greedy; the last column is of 186 pairs, with
an interval of 5% on either side):

    mixer        BLEU  words/s  agreement
    attention     4.5     1641      86.6%
    lightweight   7.7     2568      85.5%
    dynamic       7.6     2968      81.7%
    convolution  10.4     3313      84.9%
    lstm          6.4     2361      86.6%

It is one seed and far from convergence: it shows that all parts work, and
ranks nothing. The whole network has not been trained: that needs a GPU.
"""

import argparse
import re
import time

import keras
from multi30k import load_multi30k

from keras_attention.evaluation import ContrastiveItem
from keras_attention.evaluation import ContrastiveScorer
from keras_attention.evaluation import Vocabulary
from keras_attention.evaluation import write_lingeval97
from keras_attention.models import TransformerEncoderDecoder
from keras_attention.models import transformer_configuration

MIXERS = ("attention", "lightweight", "dynamic", "convolution", "lstm")
BATCH = 64
SINGULAR, PLURAL = 2, 5  # the third persons of six forms


def german_forms(lemma):
    """Third person singular and plural, present and past."""
    from ablaut import conjugate

    try:
        forms = conjugate(lemma)
    except ValueError:  # no infinitive
        return []
    tenses = (forms.present, forms.preterite)
    return [(tense[SINGULAR], tense[PLURAL]) for tense in tenses]


def english_forms(lemma):
    """Third person singular and plural, present and past."""
    from lemminflect import getInflection

    present = getInflection(lemma, "VBZ")[:1] + getInflection(lemma, "VBP")[-1:]
    past = getInflection(lemma, "VBD")  # two forms of "be" alone
    return [pair for pair in (present, past) if len(pair) == 2]


# Of each target language: the tagger's model, its tags of finite verbs, and
# the forms of a verb.
LANGUAGES = {
    "de": ("morphmodel_ger.pgz", r"V[VAM]\(FIN\)", german_forms),
    "en": ("morphmodel_en.pgz", r"V[BDHV][ZBD]", english_forms),
}


class NumberFlipper:
    """Flips the number of finite verbs, by a tagger and a conjugator."""

    def __init__(self, language):
        # HanTa reads the model that its package brings along.
        from HanTa.HanoverTagger import HanoverTagger

        model, tags, self.forms = LANGUAGES[language]
        self.tagger = HanoverTagger(model)
        self.tags = re.compile(tags)

    def flip(self, words):
        """Yield `(place, other form, number)` of the verbs of a sentence."""
        for place, (word, lemma, tag) in enumerate(
            self.tagger.tag_sent(words, taglevel=1)
        ):
            if not self.tags.fullmatch(tag):
                continue
            for singular, plural in self.forms(lemma):
                if singular != plural and word in (singular, plural):
                    is_plural = word == plural
                    yield (
                        place,
                        singular if is_plural else plural,
                        "plural" if is_plural else "singular",
                    )
                    break


def contrastive_pairs(sources, references, vocabulary, flipper):
    """Items of the sentences whose verb can be flipped to a known word."""
    items = []
    for line, (source, reference) in enumerate(
        zip(sources, references, strict=True), 1
    ):
        # Split as the vocabulary does, in the case that the tagger needs.
        words = re.findall(r"\w+(?:['’\-]\w+)*|[^\w\s]", reference)
        texts, known = [], []
        for place, other, number in flipper.flip(words):
            if not vocabulary.unknown_words(f"{words[place]} {other}"):
                texts.append(
                    " ".join([*words[:place], other, *words[place + 1 :]])
                )
                known.append({"paradigm": "subj_verb_agreement"})
                known[-1]["number"] = number
        if texts:
            items.append(
                ContrastiveItem(
                    " ".join(words),
                    texts,
                    source=source,
                    metadata={"origin": f"test_2016_flickr.{line}"},
                    pair_metadata=known,
                )
            )
    return items


def train(mixer, vocabularies, pairs, settings):
    """Train a network; return it and its losses."""
    arguments = transformer_configuration("iwslt", mixer)
    if not settings.whole:
        arguments |= {
            "width": settings.width,
            "feed_forward_dim": 2 * settings.width,
            "num_encoder_blocks": 2,
            "num_decoder_blocks": 2,
            "dropout": 0.1,
            # Few steps are enough where norms come first.
            "norm_first": True,
        }
        if "encoder_kernel_sizes" in arguments:
            for side in ("encoder", "decoder"):
                sizes = arguments[f"{side}_kernel_sizes"][:2]
                arguments[f"{side}_kernel_sizes"] = sizes
    keras.utils.set_random_seed(0)
    model = TransformerEncoderDecoder(*map(len, vocabularies), **arguments)
    source, target = (
        vocabulary.to_array(texts)
        for vocabulary, texts in zip(vocabularies, pairs, strict=True)
    )
    # A source has no begin token, as the scorer and `translate` give it.
    x, y = [source[:, 1:], target[:, :-1]], target[:, 1:]
    steps = settings.epochs * -(-len(target) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps - steps // 10,
        warmup_target=5e-4 if settings.whole else 2e-3,
        warmup_steps=steps // 10,
    )
    model.compile(
        keras.optimizers.Adam(schedule),
        keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=0
        ),
        jit_compile=settings.whole,
    )
    history = model.fit(
        x, y, batch_size=BATCH, epochs=settings.epochs, verbose=2
    )
    return model, history.history["loss"]


def translate(model, vocabularies, sources, settings):
    """Translate all sources; return texts and words a second."""
    source_vocabulary, target_vocabulary = vocabularies
    texts = []
    started, words = None, 0
    array = source_vocabulary.to_array(sources)[:, 1:]
    for first in range(0, len(sources), settings.decode_batch):
        found = model.translate(
            array[first : first + settings.decode_batch],
            target_vocabulary.begin,
            target_vocabulary.end,
            max_new_tokens=40,
            beam_size=settings.beam_size,
        )
        texts += [target_vocabulary.decode(h.tokens) for h in found]
        if started is not None:
            words += sum(len(h.tokens) + 1 for h in found)
        else:  # the first batch compiles
            started = time.time()
    seconds = time.time() - started
    return texts, words / seconds if words else float("nan")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of the files; None downloads")
    parser.add_argument("--source", choices=("en", "de"), default="en")
    parser.add_argument("--mixers", nargs="+", default=MIXERS, choices=MIXERS)
    parser.add_argument("--whole", action="store_true", help="the full network")
    parser.add_argument("--sentences", type=int, default=29_000)
    parser.add_argument("--test", type=int, default=1_000)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--beam-size", type=int, default=1)
    parser.add_argument("--decode-batch", type=int, default=50)
    parser.add_argument("--suite", help="write the pairs here, as Lingeval97")
    settings = parser.parse_args(arguments)
    settings.epochs = settings.epochs or (30 if settings.whole else 3)
    import sacrebleu

    languages = (settings.source, "de" if settings.source == "en" else "en")
    train_texts, test_texts = (
        [
            load_multi30k(language, settings.data, split)
            for language in languages
        ]
        for split in ("train", "test")
    )
    pairs = [
        pair
        for pair in zip(*train_texts, strict=True)
        if max(len(text.split()) for text in pair) <= 30
    ][: settings.sentences]
    pairs = list(zip(*pairs, strict=True))
    sources, references = (texts[: settings.test] for texts in test_texts)
    vocabularies = [
        Vocabulary.from_texts(texts, min_count=2) for texts in pairs
    ]
    items = contrastive_pairs(
        sources, references, vocabularies[1], NumberFlipper(languages[1])
    )
    if settings.suite:
        write_lingeval97(settings.suite, items)
    print(
        f"{'-'.join(languages)}: {len(pairs[0])} training sentences, "
        f"{len(vocabularies[0])} and {len(vocabularies[1])} tokens, "
        f"{sum(len(item.contrastive) for item in items)} contrastive pairs"
    )
    table = [
        ["mixer", "parameters", "loss", "BLEU", "words/s", "agreement", "min"]
    ]
    for mixer in settings.mixers:
        started = time.time()
        model, losses = train(mixer, vocabularies, pairs, settings)
        texts, speed = translate(model, vocabularies, sources, settings)
        # A translation is tokens with spaces between, as `force` says.
        bleu = sacrebleu.corpus_bleu(
            texts, [references], lowercase=True, force=True
        )
        # Other words of the sentences may be unknown: the same in both texts.
        scorer = ContrastiveScorer(
            model, vocabularies[1], vocabularies[0], 64, unknown="keep"
        )
        results = scorer.evaluate(items)
        table.append(
            [
                mixer,
                f"{model.count_params():,}",
                f"{losses[-1]:.2f}",
                f"{bleu.score:.1f}",
                f"{speed:.0f}",
                str(results),
                f"{(time.time() - started) / 60:.1f}",
            ]
        )
        print(texts[0], results.table("number"), sep="\n", flush=True)
    for cells in (table[0], ["---"] * len(table[0]), *table[1:]):
        print("| " + " | ".join(cells) + " |")
    return table


if __name__ == "__main__":
    main()

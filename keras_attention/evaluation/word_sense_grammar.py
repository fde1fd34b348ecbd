"""Generated sentences with an ambiguous word, and what it means there."""

from collections.abc import Iterable
from typing import Any

from keras_attention.evaluation.base_grammar import BaseGrammar
from keras_attention.evaluation.base_grammar import check_sizes
from keras_attention.evaluation.base_grammar import pick
from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.validation import check_boolean
from keras_attention.validation import check_number
from keras_attention.validation import check_positive_integer

AMBIGUOUS = [
    "bank",
    "bat",
    "spring",
    "crane",
    "ring",
    "match",
    "seal",
    "pitch",
    "bark",
    "club",
    "note",
    "plant",
]
# What a sentence may be about, and the words that give it away.
TOPICS = {
    "money": [
        "loan",
        "price",
        "invoice",
        "salary",
        "market",
        "profit",
        "tax",
        "budget",
    ],
    "animals": [
        "feather",
        "burrow",
        "herd",
        "paw",
        "nest",
        "beak",
        "tail",
        "den",
    ],
    "music": [
        "violin",
        "choir",
        "melody",
        "rhythm",
        "opera",
        "drum",
        "chord",
        "singer",
    ],
    "sport": [
        "goal",
        "referee",
        "stadium",
        "coach",
        "medal",
        "racket",
        "sprint",
        "score",
    ],
}
FILLERS = [
    "the",
    "a",
    "was",
    "there",
    "today",
    "and",
    "then",
    "again",
    "seen",
    "by",
    "them",
    "near",
    "it",
    "here",
    "with",
    "us",
    "over",
    "this",
    "some",
    "while",
]
SEPARATOR = "means"


class WordSenseGrammar(BaseGrammar):
    """Sentences with an ambiguous word, whose meaning one cue word decides.

    A sentence has an ambiguous word and a cue, in either order, with a
    chosen number of filler words between, and fillers around them:

        seen by the bank near some loan today means bank-money

    The topic of the cue is the sense. Every ambiguous word has all senses,
    some often and some rarely: the weights are `skew**0, skew**1, ...`, dealt
    out to the topics in another order for each word, so that a sense that is
    rare for one word is frequent for another. Pairs of cue and word are held
    out: a model must know the cue from other words. An item is right only if
    the right sense beats every other.

    A model of sequence to sequence translates the sentence before `means`
    into the sense behind it; a language model reads both as one text.

    This is a synthetic test, not a reproduction of the measurements on
    German translations.

    Args:
        trained_distance: the largest distance of training sentences.
        skew: ratio of the frequencies of a word's sense and of its next, in
            (0, 1].
        held_out: share of the pairs of cue and word that is held out.
        seed: Seed of the pairs held out and of all sentences.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        The question is that of Tang et al., EMNLP 2018, arXiv:1808.08946,
        section 5.

    Example:

    >>> from keras_attention.evaluation import WordSenseGrammar
    >>> grammar = WordSenseGrammar(seed=1)
    >>> item = grammar.items([4], count=1)[0]
    >>> item.texts[:2]
    ('seen pitch was and over over burrow means pitch-animals',
     'seen pitch was and over over burrow means pitch-money')
    """

    def __init__(
        self,
        trained_distance: int = 8,
        skew: float = 0.5,
        held_out: float = 0.25,
        seed: int = 0,
    ):
        super().__init__(held_out, seed)
        self.trained_distance = check_positive_integer(
            "trained_distance", trained_distance, minimum=0
        )
        self.skew = check_number("skew", skew, 0, 1, exclusive_minimum=True)
        generator = self.generator(0)
        # For each word its senses, the most frequent first.
        self.senses = {
            word: [str(t) for t in generator.permutation(list(TOPICS))]
            for word in AMBIGUOUS
        }
        total = sum(self.skew**rank for rank in range(len(TOPICS)))
        self.frequencies = [
            self.skew**rank / total for rank in range(len(TOPICS))
        ]
        # For each word and topic the cues that training shows, and the rest.
        self.trained_cues, self.held_out_cues = {}, {}
        for word in AMBIGUOUS:
            for topic, cues in TOPICS.items():
                order = [str(cue) for cue in generator.permutation(cues)]
                split = min(round(self.held_out * len(cues)), len(cues) - 1)
                self.held_out_cues[word, topic] = order[:split]
                self.trained_cues[word, topic] = order[split:]

    @property
    def words(self) -> list[str]:
        cues = [cue for cues in TOPICS.values() for cue in cues]
        senses = [_name(word, t) for word in AMBIGUOUS for t in TOPICS]
        return [*FILLERS, SEPARATOR, *AMBIGUOUS, *cues, *senses]

    def training_pairs(
        self, count: int, seed: int = 0
    ) -> tuple[list[str], list[str]]:
        """Return `count` sentences and the senses of their ambiguous words.

        Distances are sampled uniformly up to the trained one, senses by their
        frequency.

        Args:
            count: number of sentences.
            seed: for other sentences of the same grammar.
        """
        check_positive_integer("count", count)
        generator = self.generator(1, seed)
        sources, targets = [], []
        for _ in range(count):
            word = pick(generator, AMBIGUOUS)
            rank = generator.choice(len(TOPICS), p=self.frequencies)
            topic = self.senses[word][rank]
            cue = pick(generator, self.trained_cues[word, topic])
            distance = pick(generator, range(self.trained_distance + 1))
            sources.append(self._sentence(generator, word, cue, distance))
            targets.append(_name(word, topic))
        return sources, targets

    def training_texts(self, count: int, seed: int = 0) -> list[str]:
        """Return the pairs of `training_pairs` as one text each."""
        pairs = zip(*self.training_pairs(count, seed), strict=True)
        return [f"{source} {SEPARATOR} {target}" for source, target in pairs]

    def items(
        self,
        distances: Iterable[int] = (0, 2, 4, 8, 12, 16, 20),
        count: int = 100,
        held_out: bool = True,
        translation: bool = False,
        seed: int = 0,
    ) -> list[ContrastiveItem]:
        """Return `count` items for each distance, all senses equally often.

        Metadata: `distance`, `word`, `sense`, `frequency` (the share of the
        sense among those of its word in training), `rank` (1 is the most
        frequent sense), `cue_first` and `held_out`.

        Args:
            distances: words between the ambiguous word and its cue.
            count: items for each distance.
            held_out: whether the pairs of cue and word are held out of
                training.
            translation: whether the sentence is the item's source, for a
                model of sequence to sequence, or the start of its texts.
            seed: for other items of the same grammar.

        Raises:
            ValueError: If no pair is held out.
        """
        distances = check_sizes("distances", distances)
        check_positive_integer("count", count)
        check_boolean("translation", translation)
        cues = (
            self.held_out_cues
            if check_boolean("held_out", held_out)
            else self.trained_cues
        )
        if not all(cues.values()):
            raise ValueError(
                "With held_out=True, pairs of cue and word must be held out. "
                f"Received: a grammar with held_out={self.held_out}"
            )
        generator = self.generator(2, seed)
        items = [
            self._item(generator, cues, distance, n % len(TOPICS), held_out)
            for distance in distances
            for n in range(count)
        ]
        if translation:
            return items
        return [item.join_source(SEPARATOR) for item in items]

    def predictors(self, items: Any) -> Any:
        """The rule `most_frequent_sense`, which looks at the word alone."""
        return {"most_frequent_sense": lambda known: known["rank"] == 1}

    def _item(self, generator, cues, distance, rank, held_out):
        word = pick(generator, AMBIGUOUS)
        topic = self.senses[word][rank]
        cue = pick(generator, cues[word, topic])
        sentence = self._sentence(generator, word, cue, distance)
        places = sentence.split()
        return ContrastiveItem(
            _name(word, topic),
            [_name(word, other) for other in TOPICS if other != topic],
            source=sentence,
            metadata={
                "distance": distance,
                "word": word,
                "sense": topic,
                "frequency": round(self.frequencies[rank], 3),
                "rank": rank + 1,
                "cue_first": places.index(cue) < places.index(word),
                "held_out": held_out,
            },
        )

    def _sentence(self, generator, word, cue, distance):
        first, second = (word, cue) if pick(generator, (0, 1)) else (cue, word)
        before, after = (pick(generator, range(4)) for _ in range(2))

        def fill(count):
            return [pick(generator, FILLERS) for _ in range(count)]

        return " ".join(
            [*fill(before), first, *fill(distance), second, *fill(after)]
        )


def _name(word, topic):
    return f"{word}-{topic}"

"""Generated sentences on the agreement of subject and verb."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

from keras_attention.evaluation.base_grammar import BaseGrammar
from keras_attention.evaluation.base_grammar import check_sizes
from keras_attention.evaluation.base_grammar import pick
from keras_attention.evaluation.contrastive_item import ContrastiveItem
from keras_attention.validation import check_boolean
from keras_attention.validation import check_positive_integer

# Singular and plural.
NOUNS = [
    (noun, noun + "s")
    for noun in [
        "author",
        "pilot",
        "surgeon",
        "farmer",
        "manager",
        "customer",
        "officer",
        "teacher",
        "senator",
        "consultant",
        "guard",
        "chef",
        "architect",
        "skater",
        "dancer",
        "minister",
        "driver",
        "assistant",
        "parent",
        "banker",
        "mechanic",
        "singer",
        "painter",
        "sailor",
    ]
] + [
    ("man", "men"),
    ("woman", "women"),
    ("child", "children"),
    ("policeman", "policemen"),
]
VERBS = [
    (verb + "s", verb)
    for verb in [
        "laugh",
        "smile",
        "swim",
        "sleep",
        "run",
        "sing",
        "wait",
        "work",
    ]
]
RELATIVE_VERBS = [
    (verb + "s", verb)
    for verb in ["like", "admire", "know", "see", "help", "love"]
]
PREPOSITIONS = ["near", "behind", "beside", "above", "below", "with"]
ADJECTIVES = [
    "old",
    "young",
    "tall",
    "short",
    "happy",
    "famous",
    "quiet",
    "clever",
]
ADVERBS = [
    "often",
    "always",
    "rarely",
    "never",
    "still",
    "really",
    "soon",
    "again",
]
NUMBERS = ("singular", "plural")
PHRASE = 3  # near the guard
CLAUSE = 4  # that the guard likes


class AgreementGrammar(BaseGrammar):
    """Sentences whose verb must agree with a subject some words before it.

    A sentence is

        the SUBJECT (near the NOUN | that the NOUN likes)* ADVERB* VERB

    with adjectives before the nouns in between. Their numbers are sampled
    independently of the subject's. The *distance* is the number of words
    between subject and verb, an *attractor* a noun in between whose number
    is not the subject's. Adjectives and adverbs let both be chosen freely,
    as far as a phrase with an attractor takes three words.

    The training sentences are mostly short, and some nouns are held out:
    there they are subjects only, with the verb right behind, so that a model
    can learn their number but never sees it carried over a distance.

    This is a synthetic test, not a reproduction of the measurements on
    German translations.

    Args:
        trained_distance: the largest distance of training sentences.
        held_out: share of the nouns that is held out.
        seed: Seed of the nouns held out and of all sentences.

    Raises:
        TypeError, ValueError: for an argument of the wrong type or range.

    Reference:
        After Linzen, Dupoux and Goldberg, TACL 2016, arXiv:1611.01368; the
        question is that of Tang et al., EMNLP 2018, arXiv:1808.08946,
        section 4.

    Example:

    >>> from keras_attention.evaluation import AgreementGrammar
    >>> grammar = AgreementGrammar(seed=1)
    >>> item = grammar.items([6], attractors=[1], count=1)[0]
    >>> item.texts
    ('the singer near the quiet quiet old officers laughs',
     'the singer near the quiet quiet old officers laugh')
    >>> item.metadata["distance"], item.metadata["attractors"]
    (6, 1)
    >>> x, y = grammar.training_data(100)
    >>> len(x), len(y)
    (100, 100)
    """

    def __init__(
        self,
        trained_distance: int = 8,
        held_out: float = 0.25,
        seed: int = 0,
    ):
        super().__init__(held_out, seed)
        self.trained_distance = check_positive_integer(
            "trained_distance", trained_distance, minimum=0
        )
        order = self.generator(0).permutation(len(NOUNS))
        split = round(self.held_out * len(NOUNS))
        self.held_out_nouns = [NOUNS[n] for n in order[:split]]
        self.trained_nouns = [NOUNS[n] for n in order[split:]]

    @property
    def words(self) -> list[str]:
        pairs = [*NOUNS, *VERBS, *RELATIVE_VERBS]
        forms = [form for pair in pairs for form in pair]
        return ["the", "that", *forms, *PREPOSITIONS, *ADJECTIVES, *ADVERBS]

    def training_texts(self, count: int, seed: int = 0) -> list[str]:
        """Return `count` sentences of at most the trained distance.

        Each distance is four fifths as frequent as the one before.

        Args:
            count: number of sentences.
            seed: for other sentences of the same grammar.
        """
        check_positive_integer("count", count)
        generator = self.generator(1, seed)
        weights = [0.8**d for d in range(self.trained_distance + 1)]
        total = sum(weights)
        distances = generator.choice(
            len(weights), size=count, p=[w / total for w in weights]
        )
        texts = []
        for distance in map(int, distances):
            nouns = self.trained_nouns
            if distance == 0:
                nouns = nouns + self.held_out_nouns
            subject, number = pick(generator, nouns), pick(generator, (0, 1))
            inner = pick(generator, range(distance // PHRASE + 1))
            numbers = [pick(generator, (0, 1)) for _ in range(inner)]
            words = self._start(generator, subject, number, numbers, distance)
            texts.append(" ".join([*words, pick(generator, VERBS)[number]]))
        return texts

    def items(
        self,
        distances: Iterable[int] = (0, 3, 6, 9, 12, 16, 20),
        attractors: Iterable[int] = (0, 1, 2),
        count: int = 50,
        held_out: bool = True,
        seed: int = 0,
    ) -> list[ContrastiveItem]:
        """Return `count` items for each distance crossed with each number of
        attractors, as many singular as plural.

        A number of attractors that does not fit into a distance, at three
        words each, is left out there. Metadata: `distance`, `attractors`,
        `nouns` (in between), `number` (of the subject), `nearest_number`
        (of the noun nearest to the verb) and `held_out`.

        Args:
            distances: words between subject and verb.
            attractors: nouns in between of the other number.
            count: items for each of both.
            held_out: whether the subjects are nouns that are held out of
                training; the nouns in between never are.
            seed: for other items of the same grammar.

        Raises:
            ValueError: If no number of attractors fits into a distance, or no
                noun is held out.
        """
        distances = check_sizes("distances", distances)
        attractors = check_sizes("attractors", attractors)
        check_positive_integer("count", count)
        check_boolean("held_out", held_out)
        subjects = self.held_out_nouns if held_out else self.trained_nouns
        cells = [
            (distance, others)
            for distance in distances
            for others in attractors
            if PHRASE * others <= distance
        ]
        if not cells or not subjects:
            raise ValueError(
                "There must be a distance that holds the attractors, "
                f"{PHRASE} words each, and with held_out=True a noun that is "
                f"held out. Received: distances={distances}, "
                f"attractors={attractors}, {len(subjects)} nouns"
            )
        generator = self.generator(2, seed)
        return [
            self._item(generator, subjects, n % 2, distance, others, held_out)
            for distance, others in cells
            for n in range(count)
        ]

    def predictors(self, items: Any) -> Any:
        """The rules `majority` and `nearest_noun`."""
        numbers = Counter(item.metadata["number"] for item in items)
        (majority, _), *_ = numbers.most_common(1)
        return {
            "majority": lambda known: known["number"] == majority,
            "nearest_noun": lambda known: (
                known["number"] == known["nearest_number"]
            ),
        }

    def _item(self, generator, subjects, number, distance, others, held_out):
        subject = pick(generator, subjects)
        inner = pick(generator, range(others, distance // PHRASE + 1))
        numbers = [1 - number] * others + [number] * (inner - others)
        numbers = [int(n) for n in generator.permutation(numbers)]
        words = self._start(generator, subject, number, numbers, distance)
        verb = pick(generator, VERBS)
        return ContrastiveItem(
            " ".join([*words, verb[number]]),
            [" ".join([*words, verb[1 - number]])],
            metadata={
                "distance": distance,
                "attractors": others,
                "nouns": inner,
                "number": NUMBERS[number],
                "nearest_number": NUMBERS[[number, *numbers][-1]],
                "held_out": held_out,
            },
        )

    def _start(
        self,
        generator,
        subject: Sequence[str],
        number: int,
        numbers: Sequence[int],
        distance: int,
    ) -> list[str]:
        """A sentence up to its verb, with nouns of these numbers between."""
        spare = distance - PHRASE * len(numbers)
        modifiers = []
        for inner in numbers:
            noun = pick(generator, self.trained_nouns)[inner]
            is_clause = spare >= CLAUSE - PHRASE and pick(generator, (0, 1))
            if is_clause:
                spare -= CLAUSE - PHRASE
                verb = pick(generator, RELATIVE_VERBS)[inner]
                modifiers.append((["that", "the"], [noun, verb]))
            else:
                start = [pick(generator, PREPOSITIONS), "the"]
                modifiers.append((start, [noun]))
        # The words that are left over go before the nouns and the verb.
        places = [
            pick(generator, range(len(numbers) + 1)) for _ in range(spare)
        ]
        words = ["the", subject[number]]
        for place, (start, end) in enumerate(modifiers):
            fill = [pick(generator, ADJECTIVES) for p in places if p == place]
            words += [*start, *fill, *end]
        last = len(numbers)
        return words + [pick(generator, ADVERBS) for p in places if p == last]

"""Contrastive tests: does a model find the right text more probable?"""

from keras_attention.evaluation.accuracy import Accuracy as Accuracy
from keras_attention.evaluation.agreement_grammar import (
    AgreementGrammar as AgreementGrammar,
)
from keras_attention.evaluation.blimp import read_blimp as read_blimp
from keras_attention.evaluation.blimp import write_blimp as write_blimp
from keras_attention.evaluation.contrastive_item import (
    ContrastiveItem as ContrastiveItem,
)
from keras_attention.evaluation.contrastive_item import Decision as Decision
from keras_attention.evaluation.contrastive_metric import (
    ContrastiveMetric as ContrastiveMetric,
)
from keras_attention.evaluation.contrastive_results import (
    CONTRAWSD_FREQUENCY_BINS as CONTRAWSD_FREQUENCY_BINS,
)
from keras_attention.evaluation.contrastive_results import (
    DISTANCE_BINS as DISTANCE_BINS,
)
from keras_attention.evaluation.contrastive_results import (
    LINGEVAL97_FREQUENCY_BINS as LINGEVAL97_FREQUENCY_BINS,
)
from keras_attention.evaluation.contrastive_results import (
    ContrastiveResults as ContrastiveResults,
)
from keras_attention.evaluation.contrastive_scorer import (
    ContrastiveScorer as ContrastiveScorer,
)
from keras_attention.evaluation.contrawsd import (
    read_contrawsd as read_contrawsd,
)
from keras_attention.evaluation.contrawsd import (
    write_contrawsd as write_contrawsd,
)
from keras_attention.evaluation.lingeval97 import (
    read_lingeval97 as read_lingeval97,
)
from keras_attention.evaluation.lingeval97 import (
    write_lingeval97 as write_lingeval97,
)
from keras_attention.evaluation.marvin_linzen import (
    read_marvin_linzen as read_marvin_linzen,
)
from keras_attention.evaluation.marvin_linzen import (
    write_marvin_linzen as write_marvin_linzen,
)
from keras_attention.evaluation.metric_callback import (
    MetricCallback as MetricCallback,
)
from keras_attention.evaluation.score_files import read_scores as read_scores
from keras_attention.evaluation.score_files import write_scores as write_scores
from keras_attention.evaluation.text_vectorization_tokenizer import (
    TextVectorizationTokenizer as TextVectorizationTokenizer,
)
from keras_attention.evaluation.text_vectorization_tokenizer import (
    load_tokenizer as load_tokenizer,
)
from keras_attention.evaluation.vocabulary import Vocabulary as Vocabulary
from keras_attention.evaluation.vocabulary import (
    language_model_data as language_model_data,
)
from keras_attention.evaluation.word_sense_grammar import (
    WordSenseGrammar as WordSenseGrammar,
)

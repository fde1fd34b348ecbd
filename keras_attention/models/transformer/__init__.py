"""Networks for text whose blocks can mix positions in any way."""

from keras_attention.models.transformer.beam_search import (
    Hypothesis as Hypothesis,
)
from keras_attention.models.transformer.beam_search import (
    beam_search as beam_search,
)
from keras_attention.models.transformer.configurations import (
    transformer_configuration as transformer_configuration,
)
from keras_attention.models.transformer.convolution_mixer import (
    ConvolutionMixer as ConvolutionMixer,
)
from keras_attention.models.transformer.decoder_block import (
    TransformerDecoderBlock as TransformerDecoderBlock,
)
from keras_attention.models.transformer.encoder_block import (
    TransformerEncoderBlock as TransformerEncoderBlock,
)
from keras_attention.models.transformer.encoder_decoder import (
    TransformerEncoderDecoder as TransformerEncoderDecoder,
)
from keras_attention.models.transformer.language_model import (
    TransformerLanguageModel as TransformerLanguageModel,
)
from keras_attention.models.transformer.recurrent_mixer import (
    RecurrentMixer as RecurrentMixer,
)
from keras_attention.models.transformer.token_embedding import (
    TokenEmbedding as TokenEmbedding,
)

"""The networks of the papers, with attention where the papers put it."""

from keras_attention.models.inception import InceptionModule as InceptionModule
from keras_attention.models.inception import SEInception as SEInception
from keras_attention.models.mobilenet import MobileNetV1 as MobileNetV1
from keras_attention.models.mobilenet import MobileNetV2 as MobileNetV2
from keras_attention.models.multiply_adds import (
    count_multiply_adds as count_multiply_adds,
)
from keras_attention.models.resnet import ResNet as ResNet
from keras_attention.models.transformer import (
    TransformerDecoderBlock as TransformerDecoderBlock,
)
from keras_attention.models.transformer import (
    TransformerEncoderBlock as TransformerEncoderBlock,
)
from keras_attention.models.transformer import (
    TransformerEncoderDecoder as TransformerEncoderDecoder,
)
from keras_attention.models.transformer import (
    TransformerLanguageModel as TransformerLanguageModel,
)
from keras_attention.models.transformer import (
    transformer_configuration as transformer_configuration,
)
from keras_attention.models.wide_resnet import WideResNet as WideResNet
